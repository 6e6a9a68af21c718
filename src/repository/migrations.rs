//! The schema and its versions.
//!
//! A migration is declared as *expand* or *contract*. A program uses a database that a newer one has
//! expanded, so servers of two releases run side by side. The files below read the declarations
//! (`script`), compare them with the record of a database (`known`, `record`), and run the statements
//! (`runner`).

pub mod condition;
pub mod plan;

mod earlier_texts;
mod error;
mod known;
mod lock;
mod lock_waits;
mod record;
mod runner;
mod script;
mod statements;
mod step_effect;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use self::earlier_texts::has_earlier_text;
use super::{Error, connections::connection_settings, own_schema};
use crate::repository::Pool;

pub use self::error::MigrationError;
pub use self::known::{Migration, MigrationList, MigrationScope, SchemaStatus};
pub use self::lock_waits::LockWaits;
pub use self::script::{MigrationKind, StepMode};
pub use self::step_effect::{StepWork, TableLock};

/// Compares the database with a program.
///
/// # Errors
/// When the database cannot be queried.
pub async fn status(pool: &Pool, known: &MigrationList) -> Result<SchemaStatus, Error> {
    Ok(known.compare(&record::read_if_exists(pool).await?))
}

/// Every migration of a program, and when it was applied.
///
/// # Errors
/// When the database cannot be queried.
pub async fn list(pool: &Pool, known: &MigrationList) -> Result<Vec<Migration>, Error> {
    Ok(known.list(&record::read_if_exists(pool).await?))
}

/// Applies the pending migrations of a scope, and returns them. Several servers may call this at once:
/// an advisory lock admits one at a time.
///
/// # Errors
/// [`MigrationError`]. The migrations before the failed one stay applied, and so do the statements before
/// the failed one if the migration is declared: the next run goes on.
pub async fn run(
    pool: &Pool,
    known: &MigrationList,
    scope: MigrationScope,
    waits: LockWaits,
) -> Result<Vec<Migration>, MigrationError> {
    let applied = record::read_if_exists(pool).await?;
    let due = known.due(&applied, scope)?;
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let mut connection = connect(pool).await?;
    lock::acquire(&mut connection).await?;
    runner::prepare_record(&mut connection, waits).await?;
    replace_earlier_checksums(&mut connection, known).await?;
    // Another server may have applied some of them meanwhile.
    for migration in known.due(&record::read(&mut connection).await?, scope)? {
        runner::apply(&mut connection, migration, waits).await?;
    }
    // The end of the connection also ends the lock.
    connection.close().await?;
    Ok(due.into_iter().map(|known| known.describe(None)).collect())
}

/// Applies these migrations to a database without tables. They must be the first ones of this
/// program.
///
/// # Errors
/// [`MigrationError`].
pub async fn run_to(pool: &Pool, versions: &[i64]) -> Result<(), MigrationError> {
    let (known, waits) = (MigrationList::own(), LockWaits::default());
    let mut versions = versions.to_vec();
    versions.sort_unstable();
    let first = known.iter().map(|known| known.file.version).take(versions.len());
    if !first.eq(versions.iter().copied()) {
        return Err(MigrationError::OtherOrder { found: versions });
    }
    if versions.is_empty() {
        return Ok(());
    }
    let mut connection = connect(pool).await?;
    lock::acquire(&mut connection).await?;
    runner::prepare_record(&mut connection, waits).await?;
    let applied = record::read(&mut connection).await?;
    for migration in known.due(&applied, MigrationScope::All)? {
        if versions.contains(&migration.file.version) {
            runner::apply(&mut connection, migration, waits).await?;
        }
    }
    connection.close().await?;
    Ok(())
}

/// A connection without a timeout, because a migration may take longer than a request.
async fn connect(pool: &Pool) -> Result<PgConnection, Error> {
    let options = pool.session_options().await?;
    let options = options.as_ref().clone().options([("statement_timeout", "0")]);
    let mut connection = connection_settings::open(&options).await?;
    own_schema::select(&mut connection).await?;
    Ok(connection)
}

/// Writes the present checksums over the earlier ones, because sqlx refuses to migrate a database
/// with other checksums than its own.
async fn replace_earlier_checksums(
    connection: &mut PgConnection,
    known: &MigrationList,
) -> Result<(), Error> {
    for (version, row) in record::read(&mut *connection).await? {
        if let Some(known) = known.find(version)
            && has_earlier_text(version, &row.checksum)
        {
            record::set_checksum(connection, &known.file).await?;
        }
    }
    Ok(())
}
