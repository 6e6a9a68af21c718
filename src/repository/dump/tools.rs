//! Which `pg_dump` and `pg_restore` to use.
//!
//! They lie beside the server's programs, or alone where only the client's are installed. One that is
//! older than the server refuses it, and a newer `pg_restore` says things that an older server does
//! not know: so the oldest that serves is taken.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::super::embedded::{self, Options, PostgresVersion};
use super::error::DumpError;

/// `pg_dump` and `pg_restore` of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    dir: PathBuf,
    /// Their version.
    pub version: PostgresVersion,
}

impl Tools {
    /// Those for a server of major version `wanted`; `why` says in an error what needs it.
    ///
    /// # Errors
    /// [`DumpError::NoTools`].
    pub fn find(options: &Options, wanted: u32, why: &str) -> Result<Self, DumpError> {
        let mut found: Vec<Self> =
            embedded::program_dirs(options).into_iter().filter_map(Self::of).collect();
        found.sort_by_key(|tools| (tools.version.major, std::cmp::Reverse(tools.version.minor)));
        let list = found
            .iter()
            .map(|tools| format!("{} in {}", tools.version, tools.dir.display()))
            .collect::<Vec<_>>();
        found.into_iter().find(|tools| tools.version.major >= wanted).ok_or_else(|| {
            let found = match list.as_slice() {
                [] => String::new(),
                list => format!(" (found {})", list.join(", ")),
            };
            DumpError::NoTools { wanted, why: why.to_owned(), found }
        })
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn of(dir: PathBuf) -> Option<Self> {
        if !dir.join("pg_restore").is_file() {
            return None;
        }
        let version = version(&dir.join("pg_dump"))?;
        Some(Self { dir, version })
    }
}

fn version(program: &Path) -> Option<PostgresVersion> {
    let output =
        embedded::bare_command(program).arg("--version").stderr(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&output.stdout).parse().ok()
}
