//! The schema and its versions.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::Connection as _;
use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use sqlx::postgres::PgConnection;

use super::{Error, audit, feed};
use crate::repository::Pool;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// Migrations whose comments were rewritten before the first release, and the SHA-384 of their
/// earlier text. Databases that have the earlier text are accepted, because its statements are the
/// same.
const EARLIER_CHECKSUMS: [(i64, &str); 7] = [
    (
        1,
        "30f9586524a5c154869240ecc62c6fbb21ff3e4dae342a245af350e58ad32cb7\
         0a9112d1e4700c15b529b985736381f4",
    ),
    (
        2,
        "4dd5e6c714e8b3570a8d19ea93d23c93068114c1bb0f969a1aae0e108635ec1a\
         674bad5f3fee863020482603d3e9ed3d",
    ),
    (
        3,
        "a8edd8918f7ec9b20ea1e02fe2cb94c79501f5514dec6d7762b56f2628b4b173\
         9d4cb315526ad27fd61a8ce91e4a1e84",
    ),
    (
        4,
        "71a954c641e9685ea0ca1d7cb4bdc372dd1e33e7f3deb924a123b31f397cf97d\
         257c93388f4179789a7fe9853ddac622",
    ),
    (
        5,
        "0f8bfa1a01f64c76d75f5c62ad586a38ac33954ca81e3ef2972f6a1a03c0f800\
         d5c8820f0b86a2622418e2c94d5c17bb",
    ),
    (
        6,
        "740d84a6c87c0775843529b5d296ec6230b4b2b6c28e26559c5154e10e62b5e5\
         d6d695f84e860212e0d2f5b9047fb32d",
    ),
    (
        7,
        "170938744ea10deb42ff049d9dac145a09d5054767d65ec083ae38ea26978432\
         b46b331ed71bc843fab09066050da9d3",
    ),
];

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
    let applied = applied(pool).await?;
    let newer: Vec<i64> =
        applied.keys().copied().filter(|version| !MIGRATOR.version_exists(*version)).collect();
    if !newer.is_empty() {
        return Ok(SchemaStatus::Newer(newer));
    }
    for migration in MIGRATOR.iter() {
        match applied.get(&migration.version) {
            Some(row) if !row.success => return Ok(SchemaStatus::Dirty(migration.version)),
            Some(row)
                if row.checksum != *migration.checksum
                    && !has_earlier_text(migration.version, &row.checksum) =>
            {
                return Ok(SchemaStatus::ChecksumMismatch(migration.version));
            }
            _ => {}
        }
    }
    let pending: Vec<Migration> =
        all(&applied).into_iter().filter(|migration| migration.applied_at.is_none()).collect();
    Ok(if pending.is_empty() { SchemaStatus::Current } else { SchemaStatus::Pending(pending) })
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

fn has_earlier_text(version: i64, checksum: &[u8]) -> bool {
    let hex: String = checksum.iter().map(|byte| format!("{byte:02x}")).collect();
    EARLIER_CHECKSUMS.contains(&(version, &hex))
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
