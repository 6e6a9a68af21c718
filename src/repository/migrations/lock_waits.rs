//! The waits of a migration for tables that are in use, and the attempts between them.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::time::sleep;

use super::error::MigrationError;

/// The waits of a statement for a table that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockWaits {
    /// The time after which an attempt gives up. Requests may wait as long.
    pub lock_timeout: Duration,
    /// The pause after the first attempt. Each pause is twice as long as the one before it.
    pub retry_interval: Duration,
    /// The longest pause.
    pub max_retry_interval: Duration,
    /// The number of attempts after which the run fails.
    pub max_attempts: u32,
}

impl Default for LockWaits {
    /// The pauses take about ten minutes together.
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_millis(300),
            retry_interval: Duration::from_millis(500),
            max_retry_interval: Duration::from_secs(10),
            max_attempts: 64,
        }
    }
}

/// Limits the waits for locks in a transaction.
pub(super) async fn set_lock_timeout(
    connection: &mut PgConnection,
    waits: LockWaits,
) -> Result<(), sqlx::Error> {
    sqlx::query("select set_config('lock_timeout', $1, true)")
        .bind(waits.lock_timeout.as_millis().max(1).to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// The attempts of a statement.
pub(super) struct Retries {
    waits: LockWaits,
    version: i64,
    statement: usize,
    attempts: u32,
    pause: Duration,
}

impl Retries {
    pub(super) fn new(waits: LockWaits, version: i64, statement: usize) -> Self {
        Self { waits, version, statement, attempts: 0, pause: waits.retry_interval }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// `error`, unless the statement was refused because of other users of its table. Also the last of
    /// these.
    pub(super) async fn wait_after(&mut self, error: sqlx::Error) -> Result<(), MigrationError> {
        let Self { version, statement, .. } = *self;
        if !is_in_use(&error) {
            return Err(MigrationError::Failed { version, statement, source: error });
        }
        self.attempts += 1;
        let attempts = self.attempts;
        if attempts >= self.waits.max_attempts {
            return Err(MigrationError::Locked { version, statement, attempts, source: error });
        }
        if attempts == 1 || self.pause == self.waits.max_retry_interval {
            tracing::warn!(
                version,
                statement,
                attempts,
                "the table is in use: requests go on, and the statement of the migration is tried again"
            );
        }
        sleep(self.pause).await;
        self.pause = (2 * self.pause).min(self.waits.max_retry_interval);
        Ok(())
    }
}

/// Whether a statement was refused because of another transaction: 55P03 lock_not_available, 40P01
/// deadlock_detected.
fn is_in_use(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}
