//! The environment of this process and of PostgreSQL's programs. Only this file decides it.
//!
//! The library for connections and PostgreSQL's programs both read variables by themselves, so a
//! variable could lead a server to other tables or another server than its configuration says.
//!
//! | variables | this process | PostgreSQL's programs |
//! | --- | --- | --- |
//! | `IGNORED`: which database, and how it behaves | removed | removed |
//! | `PGPASSWORD`, `PGPASSFILE`, `PGSSL…`: access to an external database | completes the URL | removed |
//! | `INHERITED`: where programs and libraries are | kept | kept |
//! | all others, with any secret among them | kept | removed |
//!
//! The programs of a backup get the options of their connection on top.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::{env, io};

/// Variables that would change which database is used, or how it behaves.
const IGNORED: [&str; 7] =
    ["PGAPPNAME", "PGDATABASE", "PGHOST", "PGHOSTADDR", "PGOPTIONS", "PGPORT", "PGUSER"];

/// Variables that PostgreSQL's programs may need to run at all.
const INHERITED: [&str; 2] = ["PATH", "LD_LIBRARY_PATH"];

/// Starts this program again in the same process, without the ignored variables. Returns if none
/// is set. A process cannot safely remove variables while it runs.
///
/// # Errors
/// When the program cannot be started again.
pub fn restart_without_ignored() -> io::Result<()> {
    let ignored: Vec<OsString> =
        env::vars_os().map(|(name, _)| name).filter(|name| is_ignored(name)).collect();
    if ignored.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(env::current_exe()?);
    let mut arguments = env::args_os();
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    for name in ignored {
        command.env_remove(name);
    }
    Err(command.exec())
}

fn is_ignored(name: &OsStr) -> bool {
    IGNORED.iter().any(|ignored| name == *ignored)
}

/// Gives a program of PostgreSQL its environment: English messages, and nothing of this process but
/// the inherited variables.
pub(super) fn set_for_program(command: &mut Command) {
    command.env_clear().env("LC_ALL", "C");
    for name in INHERITED {
        if let Some(value) = env::var_os(name) {
            command.env(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_choose_the_database_are_ignored() {
        for name in ["PGOPTIONS", "PGDATABASE", "PGHOST"] {
            assert!(is_ignored(OsStr::new(name)), "{name}");
        }
        for name in ["PGPASSWORD", "PGPASSFILE", "PGSSLMODE", "PGDATA", "PATH", "pgoptions"] {
            assert!(!is_ignored(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn programs_inherit_no_other_variable() {
        let mut command = Command::new("env");
        command.env("OTEL_EXPORTER_OTLP_HEADERS", "secret");
        set_for_program(&mut command);
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let names: Vec<_> =
            output.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        assert!(names.contains(&"LC_ALL"), "{output}");
        for name in names {
            assert!(name == "LC_ALL" || INHERITED.contains(&name), "{output}");
        }
    }
}
