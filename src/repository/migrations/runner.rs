//! The statements of a migration, one after the other, while servers use the database.
//!
//! A statement that changes a table waits for its users, and all later users wait behind it. So it gives
//! up after a short time and is tried again: a long transaction delays the migration, and no request.
//! Each statement is recorded in its transaction, so a run that was killed goes on where it was.
//!
//! The surprise: the migrations before the first release run as one transaction each, and wait without
//! a limit. No server could run beside them.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::time::{Instant, sleep};

use super::error::MigrationError;
use super::known::KnownMigration;
use super::lock_waits::{LockWaits, Retries, set_lock_timeout};
use super::record::{self, MigrationProgress};
use super::script::{MigrationKind, MigrationStep, StepMode};

/// The interval between two log lines of a statement that runs in batches.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// The longest pause between two batches.
const MAX_BATCH_PAUSE: Duration = Duration::from_secs(1);

/// The result of a transaction.
enum Advance {
    /// The statement is done.
    Done,
    /// The statement has more rows to change, after this position.
    More(Option<String>),
}

/// Makes the record ready.
pub(super) async fn prepare_record(
    connection: &mut PgConnection,
    waits: LockWaits,
) -> Result<(), MigrationError> {
    record::create_table(connection).await.map_err(MigrationError::NoRecord)?;
    if !record::lacks_columns(connection).await? {
        return Ok(());
    }
    let mut retries = Retries::new(waits, 0, 0);
    loop {
        let mut transaction = connection.begin().await?;
        set_lock_timeout(&mut transaction, waits).await?;
        match record::add_columns(&mut transaction).await {
            Ok(()) => return Ok(transaction.commit().await?),
            Err(error) => {
                transaction.rollback().await?;
                retries.wait_after(error).await?;
            }
        }
    }
}

/// Applies a migration, or the rest of it.
pub(super) async fn apply(
    connection: &mut PgConnection,
    known: &KnownMigration,
    waits: LockWaits,
) -> Result<(), MigrationError> {
    let started_at = Instant::now();
    match known.script.kind {
        None => apply_as_one(connection, known).await?,
        Some(kind) => apply_by_statement(connection, known, kind, waits).await?,
    }
    Ok(record::finish(connection, known.file.version, started_at.elapsed()).await?)
}

async fn apply_as_one(
    connection: &mut PgConnection,
    known: &KnownMigration,
) -> Result<(), MigrationError> {
    let mut transaction = connection.begin().await?;
    for (index, step) in known.script.steps.iter().enumerate() {
        execute(&mut transaction, step).await.map_err(|source| MigrationError::Failed {
            version: known.file.version,
            statement: index + 1,
            source,
        })?;
    }
    record::insert_done(&mut transaction, &known.file).await?;
    Ok(transaction.commit().await?)
}

async fn apply_by_statement(
    connection: &mut PgConnection,
    known: &KnownMigration,
    kind: MigrationKind,
    waits: LockWaits,
) -> Result<(), MigrationError> {
    let version = known.file.version;
    let MigrationProgress { statements, mut position } =
        record::begin(connection, &known.file, kind).await?;
    for (index, step) in known.script.steps.iter().enumerate().skip(statements) {
        let mut retries = Retries::new(waits, version, index + 1);
        let started_at = Instant::now();
        let (mut batches, mut reported_at) = (0_u64, started_at);
        loop {
            let batch_started_at = Instant::now();
            match run_once(connection, version, index, step, position.clone(), waits).await {
                Ok(Advance::Done) => break,
                Ok(Advance::More(next)) => {
                    (position, batches) = (next, batches + 1);
                    retries = Retries::new(waits, version, index + 1);
                    if reported_at.elapsed() >= REPORT_INTERVAL {
                        tracing::info!(version, statement = index + 1, batches, "migrating");
                        reported_at = Instant::now();
                    }
                    // Requests get half of the time.
                    sleep(batch_started_at.elapsed().min(MAX_BATCH_PAUSE)).await;
                }
                Err(error) => retries.wait_after(error).await?,
            }
        }
        position = None;
        let duration_ms = started_at.elapsed().as_millis();
        let statement = index + 1;
        tracing::debug!(version, statement, batches, duration_ms, "migrated a statement");
    }
    Ok(())
}

/// Runs a statement, or a batch of it, and records that.
async fn run_once(
    connection: &mut PgConnection,
    version: i64,
    index: usize,
    step: &MigrationStep,
    position: Option<String>,
    waits: LockWaits,
) -> Result<Advance, sqlx::Error> {
    let done = MigrationProgress { statements: index + 1, position: None };
    if step.mode == StepMode::Alone {
        if !has_index(connection, step).await? {
            execute(connection, step).await?;
        }
        record::advance(connection, version, &done).await?;
        return Ok(Advance::Done);
    }
    let mut transaction = connection.begin().await?;
    let advance = async {
        set_lock_timeout(&mut transaction, waits).await?;
        let (advance, progress) = match step.mode {
            StepMode::Batches => match run_batch(&mut transaction, step, position).await? {
                Advance::Done => (Advance::Done, done),
                Advance::More(position) => (
                    Advance::More(position.clone()),
                    MigrationProgress { statements: index, position },
                ),
            },
            StepMode::Transaction | StepMode::Alone => {
                execute(&mut transaction, step).await?;
                (Advance::Done, done)
            }
        };
        record::advance(&mut transaction, version, &progress).await?;
        Ok::<_, sqlx::Error>(advance)
    }
    .await;
    match advance {
        Ok(advance) => {
            transaction.commit().await?;
            Ok(advance)
        }
        Err(error) => {
            // The error of a lost connection is that of the statement.
            let _ = transaction.rollback().await;
            Err(error)
        }
    }
}

/// Changes the next rows. A statement with a position is done when it returns no position, another one
/// when it changes no row.
async fn run_batch(
    connection: &mut PgConnection,
    step: &MigrationStep,
    position: Option<String>,
) -> Result<Advance, sqlx::Error> {
    if step.has_position {
        let next: Option<Option<String>> = sqlx::query_scalar(AssertSqlSafe(step.sql.clone()))
            .bind(position)
            .fetch_optional(connection)
            .await?;
        return Ok(next.flatten().map_or(Advance::Done, |position| Advance::More(Some(position))));
    }
    match execute(connection, step).await? {
        0 => Ok(Advance::Done),
        _ => Ok(Advance::More(None)),
    }
}

/// Runs a statement, and returns the number of changed rows.
async fn execute(connection: &mut PgConnection, step: &MigrationStep) -> Result<u64, sqlx::Error> {
    let done = sqlx::raw_sql(AssertSqlSafe(step.sql.clone())).execute(connection).await?;
    Ok(done.rows_affected())
}

/// Whether the index of a statement exists, because a run was killed before it was recorded. An index
/// that is not whole is dropped.
async fn has_index(
    connection: &mut PgConnection,
    step: &MigrationStep,
) -> Result<bool, sqlx::Error> {
    let Some(name) = step.concurrent_index() else { return Ok(false) };
    let sql = "select indisvalid from pg_index where indexrelid = to_regclass($1)";
    let is_valid: Option<bool> =
        sqlx::query_scalar(sql).bind(name).fetch_optional(&mut *connection).await?;
    if is_valid == Some(false) {
        let sql = AssertSqlSafe(format!("drop index concurrently {name}"));
        sqlx::raw_sql(sql).execute(connection).await?;
    }
    Ok(is_valid == Some(true))
}
