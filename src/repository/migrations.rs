//! The schema and its versions.

mod earlier_texts;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::Connection as _;
use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use sqlx::postgres::PgConnection;

use self::earlier_texts::has_earlier_text;
use super::{Error, audit, feed};
use crate::repository::Pool;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// One migration of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The number.
    pub version: i64,
    /// The description.
    pub description: String,
    /// The time when it was applied, or `None` if it is pending.
    pub applied_at: Option<DateTime<Utc>>,
}

/// The schema of a database, compared with this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaStatus {
    /// The schema is the one that this program needs.
    Current,
    /// Migrations are missing.
    Pending(Vec<Migration>),
    /// The database has migrations that are unknown to this program, because a newer one has run.
    Newer(Vec<i64>),
    /// A migration did not finish and must be repaired by hand.
    Dirty(i64),
    /// An applied migration differs in its text from the one of this program.
    ChecksumMismatch(i64),
}

/// A failed migration run.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The database could not be queried.
    #[error(transparent)]
    Database(#[from] Error),
    /// A newer Muster has migrated this database.
    #[error(
        "the database is newer than this program: it has migrations {found:?}, this program knows \
         up to {newest}. Run the newer Muster, or restore a backup made before it"
    )]
    Newer {
        /// The migrations that are unknown to this program.
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
    /// A migration failed and was rolled back.
    #[error("a migration failed and was rolled back")]
    Failed(#[source] MigrateError),
}

/// Compares the database with this program.
///
/// # Errors
/// When the database cannot be queried.
pub async fn status(pool: &Pool) -> Result<SchemaStatus, Error> {
    Ok(compare(&applied(pool).await?))
}

/// Like [`status`], and whether the database takes no writes: the server is a standby, or
/// `default_transaction_read_only` is on. One statement asks for both, because probes ask often. The
/// second value has no meaning if no migration is applied.
///
/// # Errors
/// When the database cannot be queried.
pub async fn status_and_read_only(pool: &Pool) -> Result<(SchemaStatus, bool), Error> {
    let rows = sqlx::query_as::<_, (i64, bool, Vec<u8>, DateTime<Utc>, bool)>(
        "select version, success, checksum, installed_on,
                current_setting('transaction_read_only')::bool
         from _sqlx_migrations",
    );
    let rows = match rows.fetch_all(pool).await {
        // 42P01 undefined_table: no migration is applied. A server that runs has its tables, unless
        // they are dropped, so this costs no statement more.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => Vec::new(),
        rows => rows?,
    };
    let is_read_only = rows.first().is_some_and(|(.., is_read_only)| *is_read_only);
    let applied = rows
        .into_iter()
        .map(|(version, success, checksum, at, _)| (version, Applied { success, checksum, at }));
    Ok((compare(&applied.collect()), is_read_only))
}

fn compare(applied: &BTreeMap<i64, Applied>) -> SchemaStatus {
    let newer: Vec<i64> =
        applied.keys().copied().filter(|version| !MIGRATOR.version_exists(*version)).collect();
    if !newer.is_empty() {
        return SchemaStatus::Newer(newer);
    }
    for migration in MIGRATOR.iter() {
        match applied.get(&migration.version) {
            Some(row) if !row.success => return SchemaStatus::Dirty(migration.version),
            Some(row)
                if row.checksum != *migration.checksum
                    && !has_earlier_text(migration.version, &row.checksum) =>
            {
                return SchemaStatus::ChecksumMismatch(migration.version);
            }
            _ => {}
        }
    }
    let pending: Vec<Migration> =
        all(applied).into_iter().filter(|migration| migration.applied_at.is_none()).collect();
    if pending.is_empty() { SchemaStatus::Current } else { SchemaStatus::Pending(pending) }
}

/// Every migration of this program, and when it was applied.
///
/// # Errors
/// When the database cannot be queried.
pub async fn list(pool: &Pool) -> Result<Vec<Migration>, Error> {
    Ok(all(&applied(pool).await?))
}

/// Applies the pending migrations, and returns them. Several servers may call this at once: an
/// advisory lock admits one at a time.
///
/// # Errors
/// [`MigrationError`]. The migrations before the failed one stay applied.
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
    replace_earlier_checksums(pool).await?;
    let mut connection = connect(pool).await?;
    MIGRATOR.run_direct(None, &mut connection, false).await.map_err(MigrationError::Failed)?;
    connection.close().await.map_err(Error::from)?;
    Ok(pending)
}

/// Applies these migrations to a database without tables. They must be the first ones of this
/// program.
///
/// # Errors
/// [`MigrationError`].
pub async fn run_to(pool: &Pool, versions: &[i64]) -> Result<(), MigrationError> {
    let mut versions = versions.to_vec();
    versions.sort_unstable();
    let Some(last) = versions.last().copied() else { return Ok(()) };
    let known = MIGRATOR.iter().map(|migration| migration.version).take(versions.len());
    if !known.eq(versions.iter().copied()) {
        return Err(MigrationError::OtherOrder { found: versions });
    }
    let mut connection = connect(pool).await?;
    MIGRATOR
        .run_direct(Some(last), &mut connection, false)
        .await
        .map_err(MigrationError::Failed)?;
    connection.close().await.map_err(Error::from)?;
    Ok(())
}

/// Repairs a database that was copied from another PostgreSQL: the transaction ids of events, which
/// have no meaning there, and the sequence of the audit, which logical replication does not copy.
/// Migrations wait meanwhile, and so do other calls of this function. Returns whether a repair was
/// necessary.
///
/// # Errors
/// [`MigrationError`].
pub async fn repair_copy(pool: &Pool) -> Result<bool, MigrationError> {
    let mut pooled = pool.acquire().await.map_err(Error::from)?;
    if !feed::has_future_events(&mut pooled).await?
        && !audit::has_stale_sequence(&mut pooled).await?
    {
        return Ok(false);
    }
    drop(pooled);
    let mut connection = connect(pool).await?;
    connection.lock().await.map_err(MigrationError::Failed)?;
    let renumbered = feed::renumber_future_events(&mut connection).await?;
    let advanced = audit::advance_sequence(&mut connection).await?;
    // The end of the connection also ends the lock.
    connection.close().await.map_err(Error::from)?;
    Ok(renumbered || advanced)
}

/// A connection without a timeout, because a migration may take longer than a request.
async fn connect(pool: &Pool) -> Result<PgConnection, Error> {
    let options = pool.connect_options().as_ref().clone().options([("statement_timeout", "0")]);
    Ok(PgConnection::connect_with(&options).await?)
}

/// Writes the present checksums over the earlier ones, because sqlx refuses to migrate a database
/// with other checksums than its own.
async fn replace_earlier_checksums(pool: &Pool) -> Result<(), Error> {
    for (version, row) in applied(pool).await? {
        let migration = MIGRATOR.iter().find(|migration| migration.version == version);
        if let Some(migration) = migration
            && has_earlier_text(version, &row.checksum)
        {
            sqlx::query("update _sqlx_migrations set checksum = $2 where version = $1")
                .bind(version)
                .bind(&*migration.checksum)
                .execute(pool)
                .await?;
        }
    }
    Ok(())
}

/// The migrations among `versions` that are unknown to this program.
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
/// so the statements are not checked at compile time.
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
