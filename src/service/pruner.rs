//! Deletes expired rows in batches.
//!
//! The batches are small so that no statement holds its locks for long.

use std::time::Duration;

use crate::repository::Error;
use crate::telemetry::cause_chain;

/// The maximum number of rows that one statement deletes.
const BATCH: i64 = 1_000;

/// Deletes one kind of row at intervals.
#[derive(Clone, Copy, Debug)]
pub struct Pruner {
    /// The kind of row, for the log.
    pub rows: &'static str,
    /// The interval between two runs.
    pub interval: Duration,
}

impl Pruner {
    /// Calls `prune` at once and then at every interval. Never completes. A failure is logged, and
    /// the next run tries again.
    pub async fn run<F>(self, prune: impl Fn() -> F)
    where
        F: Future<Output = Result<u64, Error>>,
    {
        loop {
            if let Err(error) = prune().await {
                tracing::warn!(
                    error = %cause_chain(&error),
                    rows = self.rows,
                    "cannot delete old rows; trying again in {:?}",
                    self.interval
                );
            }
            tokio::time::sleep(self.interval).await;
        }
    }

    /// Deletes batches until a batch is not full. `delete` gets the maximum number of rows of a
    /// batch and returns the number of deleted rows. Returns the total of deleted rows.
    ///
    /// # Errors
    /// The database fails. The batches before the failure stay deleted.
    pub async fn delete_all<F>(delete: impl Fn(i64) -> F) -> Result<u64, Error>
    where
        F: Future<Output = Result<u64, Error>>,
    {
        let mut deleted = 0;
        loop {
            let batch = delete(BATCH).await?;
            deleted += batch;
            if batch < BATCH.unsigned_abs() {
                return Ok(deleted);
            }
        }
    }
}
