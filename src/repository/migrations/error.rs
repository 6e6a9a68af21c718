//! Errors of a migration run.

use sqlx::migrate::MigrateError;

use crate::repository::Error;

/// A failed migration run.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The database could not be queried.
    #[error(transparent)]
    Database(#[from] Error),
    /// A newer Muster has migrated this database.
    #[error(
        "the database is newer than this program: it has migrations {found:?}, after which this \
         program cannot use it; this program knows up to {newest}. Run the newer Muster, or restore a \
         backup made before it"
    )]
    Newer {
        /// The migrations that are unknown to this program, without those that only add to the
        /// schema.
        found: Vec<i64>,
        /// The newest known migration.
        newest: i64,
    },
    /// A migration needs a manual repair.
    #[error(
        "migration {0} is not as this program left it. Restore a backup, or compare the schema \
         with the file of that number by hand"
    )]
    Inconsistent(i64),
    /// The migrations of a backup are not the first ones of this program.
    #[error(
        "migrations {found:?} are not the first ones of this program, so this program cannot create \
         their tables"
    )]
    OtherOrder {
        /// The migrations of the backup.
        found: Vec<i64>,
    },
    /// A statement failed and was rolled back.
    #[error("statement {statement} of migration {version} failed and was rolled back")]
    Failed {
        /// The migration.
        version: i64,
        /// The number of the statement, from 1.
        statement: usize,
        /// The error of the database.
        source: sqlx::Error,
    },
    /// A statement did not get its lock.
    #[error(
        "statement {statement} of migration {version} found its table in use {attempts} times. Find the \
         long transaction in pg_stat_activity, and run `muster migrate` again: it goes on with this \
         statement"
    )]
    Locked {
        /// The migration.
        version: i64,
        /// The number of the statement, from 1; 0 is the record of migrations itself.
        statement: usize,
        /// The number of attempts.
        attempts: u32,
        /// The error of the last attempt.
        source: sqlx::Error,
    },
    /// The record of migrations could not be created.
    #[error("the record of migrations cannot be created")]
    NoRecord(#[source] MigrateError),
}

impl From<sqlx::Error> for MigrationError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}
