//! The schema and its versions.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgPoolOptions;

use super::Error;
use crate::repository::Pool;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// One step of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its number.
    pub version: i64,
    /// What it is about.
    pub description: String,
    /// When it was applied, if it was.
    pub applied_at: Option<DateTime<Utc>>,
}

/// How the schema of a database compares with this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaStatus {
    /// Just right.
    Current,
    /// Migrations are missing.
    Pending(Vec<Migration>),
    /// The database has migrations that this program does not know: a newer program has run.
    Newer(Vec<i64>),
    /// A migration did not finish. It must be repaired by hand.
    Dirty(i64),
    /// A migration was applied with another text than this program has.
    ChecksumMismatch(i64),
}

/// Why migrating failed.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The database could not be asked.
    #[error(transparent)]
    Database(#[from] Error),
    /// A newer Muster has migrated this database.
    #[error(
        "the database is newer than this program: it has migrations {found:?}, this program knows \
         up to {newest}. Run the newer Muster, or restore a backup made before it"
    )]
    Newer {
        /// The migrations that this program does not know.
        found: Vec<i64>,
        /// The newest that it knows.
        newest: i64,
    },
    /// A migration that cannot be repaired by running it again.
    #[error(
        "migration {0} is not as this program left it. Restore a backup, or compare the schema \
         with the file of that number by hand"
    )]
    Inconsistent(i64),
    /// Applying a migration failed; it was rolled back.
    #[error("a migration failed and was rolled back")]
    Failed(#[source] MigrateError),
}

/// Compares the database with this program.
///
/// # Errors
/// When the database cannot be asked.
pub async fn status(pool: &Pool) -> Result<SchemaStatus, Error> {
    let applied = applied(pool).await?;
    let newer: Vec<i64> =
        applied.keys().copied().filter(|version| !MIGRATOR.version_exists(*version)).collect();
    if !newer.is_empty() {
        return Ok(SchemaStatus::Newer(newer));
    }
    for migration in MIGRATOR.iter() {
        match applied.get(&migration.version) {
            Some(row) if !row.success => return Ok(SchemaStatus::Dirty(migration.version)),
            Some(row) if row.checksum != *migration.checksum => {
                return Ok(SchemaStatus::ChecksumMismatch(migration.version));
            }
            _ => {}
        }
    }
    let pending: Vec<Migration> =
        all(&applied).into_iter().filter(|migration| migration.applied_at.is_none()).collect();
    Ok(if pending.is_empty() { SchemaStatus::Current } else { SchemaStatus::Pending(pending) })
}

/// Every migration that this program knows, and when it was applied.
///
/// # Errors
/// When the database cannot be asked.
pub async fn list(pool: &Pool) -> Result<Vec<Migration>, Error> {
    Ok(all(&applied(pool).await?))
}

/// Applies the pending migrations, and returns them. Several servers may call this at once: an
/// advisory lock admits one at a time.
///
/// # Errors
/// [`MigrationError`]; the schema is as it was before the step that failed.
pub async fn run(pool: &Pool) -> Result<Vec<Migration>, MigrationError> {
    let pending = match status(pool).await? {
        SchemaStatus::Current => return Ok(Vec::new()),
        SchemaStatus::Pending(pending) => pending,
        SchemaStatus::Newer(found) => {
            let newest = MIGRATOR.iter().map(|migration| migration.version).max();
            return Err(MigrationError::Newer { found, newest: newest.unwrap_or_default() });
        }
        SchemaStatus::Dirty(version) | SchemaStatus::ChecksumMismatch(version) => {
            return Err(MigrationError::Inconsistent(version));
        }
    };
    // On a connection of its own, without a timeout: a migration may take longer than any request.
    let options = pool.connect_options().as_ref().clone().options([("statement_timeout", "0")]);
    let migration_pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let result = MIGRATOR.run(&migration_pool).await;
    migration_pool.close().await;
    result.map_err(MigrationError::Failed)?;
    Ok(pending)
}

/// Those of these migrations that this program does not know.
#[must_use]
pub fn unknown(versions: &[i64]) -> Vec<i64> {
    versions.iter().copied().filter(|version| !MIGRATOR.version_exists(*version)).collect()
}

struct Applied {
    success: bool,
    checksum: Vec<u8>,
    at: DateTime<Utc>,
}

/// The applied migrations. Their table belongs to sqlx and exists only after the first migration,
/// so its statements are not checked at compile time.
async fn applied(pool: &Pool) -> Result<BTreeMap<i64, Applied>, Error> {
    let exists: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(pool)
        .await?;
    if !exists {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<(i64, bool, Vec<u8>, DateTime<Utc>)> =
        sqlx::query_as("select version, success, checksum, installed_on from _sqlx_migrations")
            .fetch_all(pool)
            .await?;
    Ok(rows
        .into_iter()
        .map(|(version, success, checksum, at)| (version, Applied { success, checksum, at }))
        .collect())
}

fn all(applied: &BTreeMap<i64, Applied>) -> Vec<Migration> {
    MIGRATOR
        .iter()
        .map(|migration| Migration {
            version: migration.version,
            description: migration.description.to_string(),
            applied_at: applied.get(&migration.version).map(|row| row.at),
        })
        .collect()
}
