//! The `pg_dump` and `pg_restore` to use.
//!
//! They are in the directory of the server's programs, or in another directory if only the client
//! programs are installed. A program refuses a server that is newer than itself. A newer
//! `pg_restore` sends settings that an older server does not know. So the oldest suitable version
//! is used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::error::DumpError;
use crate::postgres::embedded::{self, Options, PostgresVersion};

/// `pg_dump` and `pg_restore` of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    dir: PathBuf,
    /// The version of both programs.
    pub version: PostgresVersion,
}

impl Tools {
    /// Finds the programs for a server of major version `required`. `needed_by` names the operation
    /// in an error.
    ///
    /// # Errors
    /// [`DumpError::NoTools`].
    pub fn find(options: &Options, required: u32, needed_by: &str) -> Result<Self, DumpError> {
        let mut found: Vec<Self> =
            embedded::program_dirs(options).iter().filter_map(|dir| Self::in_dir(dir)).collect();
        found.sort_by_key(|tools| (tools.version.major, std::cmp::Reverse(tools.version.minor)));
        let list = found
            .iter()
            .map(|tools| format!("{} in {}", tools.version, tools.dir.display()))
            .collect::<Vec<_>>();
        found.into_iter().find(|tools| tools.version.major >= required).ok_or_else(|| {
            let found = match list.as_slice() {
                [] => String::new(),
                list => format!(" (found {})", list.join(", ")),
            };
            DumpError::NoTools { required, needed_by: needed_by.to_owned(), found }
        })
    }

    /// The path of one of the programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn in_dir(dir: &Path) -> Option<Self> {
        // PATH may contain a distribution's wrapper of this name that chooses a version by itself.
        // The real programs are found in their own directories.
        let resolved = fs::canonicalize(dir.join("pg_dump")).ok()?;
        let dir = resolved
            .parent()
            .filter(|_| resolved.file_name().is_some_and(|name| name == "pg_dump"))?;
        if !dir.join("pg_restore").is_file() {
            return None;
        }
        Some(Self { dir: dir.to_owned(), version: version(&resolved)? })
    }
}

fn version(program: &Path) -> Option<PostgresVersion> {
    let output =
        embedded::bare_command(program).arg("--version").stderr(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&output.stdout).parse().ok()
}
