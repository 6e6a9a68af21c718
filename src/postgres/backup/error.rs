//! Why a backup, a restore or a move failed. Each message says what to do where that is not plain.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::keyring::KeyringError;
use crate::repository::Error;

/// A failure of a backup, a restore or a move.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The system refused something.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was to be done.
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A backup was to go where something is.
    #[error("{} is not empty: a backup needs a new or an empty directory", .0.display())]
    DirectoryNotEmpty(PathBuf),
    /// There is no end to it: it was interrupted, or it is none.
    #[error(
        "{} holds no whole backup: backup.json, which is written last, is not there. A backup that \
         was interrupted cannot be restored",
        .0.display()
    )]
    Incomplete(PathBuf),
    /// `backup.json` is not what Muster writes.
    #[error("{} is not what this Muster writes: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The dump is not the one that was written.
    #[error("{} was changed or is damaged: {problem}; nothing was restored", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// PostgreSQL's own programs are missing, or too old.
    #[error(
        "found no pg_dump and pg_restore of PostgreSQL {wanted} or newer, which {why} needs{found}: \
         install PostgreSQL {wanted}'s client programs, or set database.postgres_dir to the directory \
         that holds them"
    )]
    NoTools {
        /// The oldest major version that serves.
        wanted: u32,
        /// What needs it.
        why: String,
        /// Those that were found.
        found: String,
    },
    /// A backup goes into the same or a newer major version only.
    #[error(
        "the backup was made of PostgreSQL {backup}, and the target is PostgreSQL {target}: restore \
         into {backup} or newer"
    )]
    OlderTarget {
        /// The major version of the backup.
        backup: u32,
        /// That of the target.
        target: u32,
    },
    /// One of the programs failed.
    #[error("{program} failed ({status}): {stderr}")]
    Program {
        /// `pg_dump` or `pg_restore`.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines that it said.
        stderr: String,
    },
    /// A Muster serves on the database.
    #[error("{0} running servers use {1}: stop them first")]
    InUse(u64, &'static str),
    /// The target has something that must not be lost.
    #[error(
        "the target database is not empty: {table} has {rows} rows. Nothing was changed; use a new \
         database, or a new data_dir"
    )]
    NotEmpty {
        /// A table that has rows.
        table: String,
        /// How many.
        rows: i64,
    },
    /// What arrived is not what was sent.
    #[error("what arrived differs from {from}: {}. {then}", .differences.join("; "))]
    Differs {
        /// With what it was compared.
        from: &'static str,
        /// Where it differs.
        differences: Vec<String>,
        /// What to do.
        then: &'static str,
    },
    /// The database that data come from failed.
    #[error(
        "the source database failed; nothing was changed in it, and nothing is left in the target: \
             this can be run again"
    )]
    Source(#[source] Error),
    /// The database that data go to failed.
    #[error("the target database failed; nothing is left in it, so this can be run again")]
    Target(#[source] Error),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] Error),
    /// The master key cannot be put into the backup.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

impl DumpError {
    pub(super) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }
}

impl From<sqlx::Error> for DumpError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}
