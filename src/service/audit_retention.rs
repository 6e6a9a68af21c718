//! Keeping the record of administrative acts no longer than it is wished.

use std::time::Duration;

use crate::repository::PgPool;

use crate::clock::Clock;
use crate::repository::{self, audit};

/// How often it is looked for what is too old.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// How many old lines one statement deletes.
const FORGOTTEN_AT_ONCE: i64 = 1_000;

/// For how long it is kept.
pub struct Retention {
    /// The database.
    pub pool: PgPool,
    /// What time it is.
    pub clock: Clock,
    /// How old a line may get.
    pub keep: Duration,
}

impl Retention {
    /// Deletes what is too old, for ever.
    pub async fn keep_tidy(self) {
        loop {
            if let Err(error) = self.forget().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "old lines of the audit could not be deleted; trying again"
                );
            }
            tokio::time::sleep(FORGET_EVERY).await;
        }
    }

    /// Deletes what is too old now. Gives how many lines.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget(&self) -> Result<u64, repository::Error> {
        let before = self.clock.now() - self.keep;
        let mut forgotten = 0;
        loop {
            let batch = audit::prune(&self.pool, before, FORGOTTEN_AT_ONCE).await?;
            forgotten += batch;
            if batch < FORGOTTEN_AT_ONCE.unsigned_abs() {
                return Ok(forgotten);
            }
        }
    }
}
