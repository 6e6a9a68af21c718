//! Errors of a backup, a restore or a move. A message names a remedy if the remedy is not obvious.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::keyring::KeyringError;
use crate::repository::Error;
use crate::repository::migrations::MigrationError;
use crate::wire::MasterKeyId;

/// A failure of a backup, a restore or a move.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The operating system refused an operation.
    #[error("cannot {action} {}", path.display())]
    File {
        /// The operation.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The directory for a backup has other contents.
    #[error("{} is not empty: a backup needs a new or an empty directory", .0.display())]
    DirectoryNotEmpty(PathBuf),
    /// The directory has no `backup.json`: the backup was interrupted, or the directory is no
    /// backup.
    #[error(
        "{} holds no whole backup: backup.json, which is written last, is not there. A backup that \
         was interrupted cannot be restored",
        .0.display()
    )]
    Incomplete(PathBuf),
    /// `backup.json` has unexpected contents.
    #[error("{} does not have the form that this Muster writes: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The problem with the file.
        problem: String,
    },
    /// The dump was changed after it was written.
    #[error("{} was changed or is damaged: {problem}; nothing was restored", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The problem with the file.
        problem: String,
    },
    /// The manifest is not the one that the holder of the master key has signed.
    #[error(
        "{} was changed after the backup, or its signature was: it was not made with the master key \
         {key}. Nothing was restored",
        path.display()
    )]
    Forged {
        /// The file.
        path: PathBuf,
        /// The id of the key that the manifest names.
        key: MasterKeyId,
    },
    /// The dump has entries that no dump of Muster has.
    #[error(
        "{} contains entries that no backup of Muster has: {}. Nothing was restored",
        path.display(),
        .entries.join("; ")
    )]
    ForeignEntries {
        /// The file.
        path: PathBuf,
        /// Descriptions of the first entries.
        entries: Vec<String>,
    },
    /// The dump of a backup was written, but a restore would refuse it.
    #[error(
        "the backup is not complete: no restore would accept {}: {problem}. Nothing in the database was \
         changed",
        path.display()
    )]
    Unrestorable {
        /// The file.
        path: PathBuf,
        /// The problem with the file.
        problem: String,
    },
    /// Other tables hold rows of a table of Muster.
    #[error(
        "{rows} rows of {table} are in tables that inherit from it, and a copy would not have them: {}. \
         Nothing was copied: move these rows, or end it with `alter table … no inherit {table}`",
        .children.join(", ")
    )]
    Inherited {
        /// The table of Muster.
        table: String,
        /// The number of these rows.
        rows: i64,
        /// The other tables.
        children: Vec<String>,
    },
    /// Another user owns the directory for a backup.
    #[error(
        "{} belongs to another user (user id {owner}): a backup needs a directory of your own, or a \
         new one",
        path.display()
    )]
    DirectoryOfAnother {
        /// The directory.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// Other users may write to the directory for a backup.
    #[error(
        "other users may write to {} (mode {mode:04o}): use a new directory, or prevent it with \
         `chmod 700`",
        path.display()
    )]
    DirectoryWritable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another user owns a directory above that of a backup.
    #[error(
        "{} belongs to another user (user id {owner}), who could replace the directory of a backup in \
         it: use a directory below those of your own or of root",
        path.display()
    )]
    AncestorOfAnother {
        /// The directory above.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// Other users may write to a directory above that of a backup.
    #[error(
        "other users may write to {} (mode {mode:04o}), and could replace the directory of a backup in \
         it: use another one, or prevent it with `chmod go-w`, or with `chmod +t`",
        path.display()
    )]
    AncestorWritable {
        /// The directory above.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The database has no tables of Muster.
    #[error("the database has no tables of Muster yet: run `muster migrate` first")]
    NoTables,
    /// PostgreSQL's own programs are missing, or too old.
    #[error(
        "found no pg_dump and pg_restore of PostgreSQL {required} or newer, which {needed_by} needs{found}: \
         install PostgreSQL {required}'s client programs, or set database.postgres_dir to the directory \
         that holds them"
    )]
    NoTools {
        /// The oldest suitable major version.
        required: u32,
        /// The operation that needs the programs.
        needed_by: String,
        /// The versions that were found.
        found: String,
    },
    /// A backup can be restored only into the same or a newer major version.
    #[error(
        "the backup was made of PostgreSQL {backup}, and the target is PostgreSQL {target}: restore \
         into {backup} or newer"
    )]
    OlderTarget {
        /// The major version of the backup.
        backup: u32,
        /// The major version of the target.
        target: u32,
    },
    /// One of the programs failed.
    #[error("{program} failed ({status}): {stderr}")]
    Program {
        /// `pg_dump` or `pg_restore`.
        program: &'static str,
        /// The exit status.
        status: ExitStatus,
        /// The last lines of the program's standard error.
        stderr: String,
    },
    /// Muster servers use the database.
    #[error("{0} running servers use {1}: stop them first")]
    InUse(u64, &'static str),
    /// The target has rows that must not be lost.
    #[error(
        "the target database is not empty: {table} has {rows} rows. Nothing was changed; use a new \
         database, or a new data_dir"
    )]
    NotEmpty {
        /// A table that has rows.
        table: String,
        /// The number of rows.
        rows: i64,
    },
    /// A migration runs, or was interrupted.
    #[error(
        "migration {0} is not finished, so the backup would have tables that no program makes: let \
         `muster migrate` finish first"
    )]
    UnfinishedMigration(i64),
    /// The copied rows differ from the original ones.
    #[error("the copied data differ from {from}: {}. {remedy}", .differences.join("; "))]
    Differs {
        /// The name of the original.
        from: &'static str,
        /// The differences.
        differences: Vec<String>,
        /// The remedy.
        remedy: &'static str,
    },
    /// The source database failed.
    #[error(
        "the source database failed; nothing was changed in it, and nothing is left in the target: \
             this can be run again"
    )]
    Source(#[source] Error),
    /// The target database failed.
    #[error("the target database failed; nothing is left in it, so this can be run again")]
    Target(#[source] Error),
    /// The tables cannot be created as the backup had them.
    #[error("the tables of the backup cannot be created")]
    Schema(#[from] MigrationError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] Error),
    /// The master key cannot be put into the backup.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

impl DumpError {
    pub(super) fn damaged(path: &Path, problem: String) -> Self {
        Self::Damaged { path: path.to_owned(), problem }
    }

    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

impl From<sqlx::Error> for DumpError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}
