//! `pg_dump` and `pg_restore` as processes. Their data go through us, so they end when we do.
//!
//! The address of the database and the password are passed in the environment, never on the command
//! line, which every user can read.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use percent_encoding::percent_decode_str;
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use super::error::DumpError;
use super::manifest::{Checksum, DumpFile};
use super::tools::Tools;
use crate::postgres::embedded;

/// Leaves out what depends on roles, disks and other servers.
const DUMP_ARGUMENTS: [&str; 7] = [
    "--no-owner",
    "--no-privileges",
    "--no-tablespaces",
    "--no-comments",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
];

/// Writes a dump of the database as `snapshot` shows it. Blocks.
pub(super) fn dump(
    tools: &Tools,
    database: &PgConnectOptions,
    snapshot: &str,
    path: &Path,
    mut file: File,
) -> Result<DumpFile, DumpError> {
    let mut command = command(tools, "pg_dump", database);
    command
        // Fast rather than small.
        .args(["--format=custom", "--compress=1", "--no-password"])
        .args(DUMP_ARGUMENTS)
        .arg(format!("--snapshot={snapshot}"))
        .stdout(Stdio::piped());
    let (mut child, stderr) = start("pg_dump", tools, command)?;
    let mut checksum = Checksum::default();
    let written = match child.stdout.take() {
        Some(mut pipe) => copy(&mut pipe, |bytes| {
            checksum.add(bytes);
            file.write_all(bytes)
        })
        .and_then(|()| file.sync_all()),
        None => Ok(()),
    };
    if written.is_err() {
        let _ = child.kill();
    }
    let exit = wait("pg_dump", tools, child, stderr);
    written.map_err(DumpError::file("write", path))?;
    exit?;
    Ok(checksum.finish())
}

/// Restores a dump, all of it or nothing. Blocks.
pub(super) fn restore(
    tools: &Tools,
    database: &PgConnectOptions,
    path: &Path,
) -> Result<(), DumpError> {
    let mut file = File::open(path).map_err(DumpError::file("open", path))?;
    let mut command = command(tools, "pg_restore", database);
    let name = database.get_database().unwrap_or_else(|| database.get_username());
    command
        .args(["--single-transaction", "--exit-on-error", "--no-password"])
        .args(DUMP_ARGUMENTS)
        .arg(format!("--dbname={}", quote_dbname(name)))
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let (mut child, stderr) = start("pg_restore", tools, command)?;
    let written = match child.stdin.take() {
        Some(mut pipe) => copy(&mut file, |bytes| pipe.write_all(bytes)),
        None => Ok(()),
    };
    wait("pg_restore", tools, child, stderr)?;
    match written {
        // It has what it needs and reads no further.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(DumpError::file("read", path)),
    }
}

fn copy(from: &mut impl Read, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            length => to(&buffer[..length])?,
        }
    }
}

/// The standard error of a program, read by a thread of its own so that the program never blocks.
type Stderr = JoinHandle<Vec<u8>>;

fn start(
    program: &'static str,
    tools: &Tools,
    mut command: Command,
) -> Result<(Child, Stderr), DumpError> {
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .map_err(DumpError::file("start", tools.program(program)))?;
    let pipe = child.stderr.take();
    let stderr = std::thread::spawn(move || {
        let mut stderr = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut stderr);
        }
        stderr
    });
    Ok((child, stderr))
}

fn wait(
    program: &'static str,
    tools: &Tools,
    mut child: Child,
    stderr: Stderr,
) -> Result<(), DumpError> {
    let status: ExitStatus =
        child.wait().map_err(DumpError::file("wait for", tools.program(program)))?;
    let stderr = embedded::last_lines(&stderr.join().unwrap_or_default());
    if !status.success() {
        return Err(DumpError::Program { program, status, stderr });
    }
    if !stderr.is_empty() {
        tracing::info!(program, stderr, "PostgreSQL's program had something to say");
    }
    Ok(())
}

fn command(tools: &Tools, program: &str, database: &PgConnectOptions) -> Command {
    let mut command = embedded::bare_command(&tools.program(program));
    command.envs(environment(database, tools.version.major));
    command
}

/// How to connect, in the variables of PostgreSQL's own programs.
fn environment(database: &PgConnectOptions, tools: u32) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("PGHOST", host(database)),
        ("PGPORT", database.get_port().to_string()),
        ("PGUSER", database.get_username().to_owned()),
        ("PGAPPNAME", "muster copy".to_owned()),
        ("PGCONNECT_TIMEOUT", "30".to_owned()),
    ];
    if let Some(name) = database.get_database() {
        all.push(("PGDATABASE", name.to_owned()));
    }
    if let Some(options) = database.get_options() {
        all.push(("PGOPTIONS", options.to_owned()));
    }
    // The options themselves do not tell the password and the files; the URL that they make does.
    let url = database.to_url_lossy();
    if let Some(password) = url.password() {
        all.push(("PGPASSWORD", percent_decode_str(password).decode_utf8_lossy().into_owned()));
    }
    let mut verifies_with = None;
    for (key, value) in url.query_pairs() {
        let variable = match &*key {
            "sslmode" => {
                if value.starts_with("verify") {
                    verifies_with.get_or_insert(false);
                }
                all.push(("PGSSLMODE", value.into_owned()));
                continue;
            }
            "sslrootcert" => {
                verifies_with = Some(true);
                "PGSSLROOTCERT"
            }
            "sslcert" => "PGSSLCERT",
            "sslkey" => "PGSSLKEY",
            _ => continue,
        };
        all.push((variable, absolute_path(&value)));
    }
    // Muster trusts whom the system trusts; these programs must be told so, and how from 16 on only.
    if verifies_with == Some(false) {
        let trusted = if tools >= 16 { "system" } else { "/etc/ssl/certs/ca-certificates.crt" };
        all.push(("PGSSLROOTCERT", trusted.to_owned()));
    }
    all
}

/// The host or the directory of the socket. A directory that was opened by us is found through our
/// process by others.
fn host(database: &PgConnectOptions) -> String {
    let Some(socket) = database.get_socket() else {
        return database.get_host().to_owned();
    };
    let socket = socket.display().to_string();
    match socket.strip_prefix("/proc/self/") {
        Some(rest) => format!("/proc/{}/{rest}", std::process::id()),
        None => socket,
    }
}

/// A file that options name, which they show with a word before it. The programs run in another
/// directory than we do.
fn absolute_path(text: &str) -> String {
    let path = text.strip_prefix("file: ").unwrap_or(text);
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

/// A database's name as a value of a connection string, which `--dbname` takes it for if it looks
/// like one.
fn quote_dbname(name: &str) -> String {
    format!("dbname='{}'", name.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    fn variable(url: &str, tools: u32, name: &str) -> Option<String> {
        let options = PgConnectOptions::from_str(url).unwrap();
        let all = environment(&options, tools);
        all.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    #[test]
    fn url_becomes_environment_variables() {
        let url = "postgres://al%40ice:p%2B%20%C3%A4@db.example:7000/mine?sslmode=verify-full";
        for (name, value) in [
            ("PGHOST", Some("db.example")),
            ("PGPORT", Some("7000")),
            ("PGUSER", Some("al@ice")),
            ("PGPASSWORD", Some("p+ ä")),
            ("PGDATABASE", Some("mine")),
            ("PGSSLMODE", Some("verify-full")),
            ("PGSSLROOTCERT", Some("system")),
            ("PGSSLKEY", None),
        ] {
            assert_eq!(variable(url, 16, name).as_deref(), value, "{name}");
        }
        assert!(variable(url, 15, "PGSSLROOTCERT").unwrap().ends_with(".crt"));
        let own = "postgres:///mine?host=/run&user=u&sslrootcert=/etc/ca.pem&sslmode=verify-ca";
        assert_eq!(variable(own, 16, "PGHOST").as_deref(), Some("/run"));
        assert_eq!(variable(own, 16, "PGSSLROOTCERT").as_deref(), Some("/etc/ca.pem"));
        assert_eq!(quote_dbname(r"it's \"), r"dbname='it\'s \\'");
    }
}
