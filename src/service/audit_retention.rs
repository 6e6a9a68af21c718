//! Deletes audit lines that are older than the configured retention.

use std::time::Duration;

use super::Pruner;
use crate::clock::Clock;
use crate::repository::{self, PgPool, audit};

/// How often old lines are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3_600);

/// Deletes old audit lines.
pub struct Retention {
    /// The database.
    pub pool: PgPool,
    /// The present time.
    pub clock: Clock,
    /// The greatest age of a line.
    pub keep: Duration,
}

impl Retention {
    /// Deletes old lines, at intervals. Runs until it is dropped.
    pub async fn keep_tidy(self) {
        let pruner = Pruner { rows: "audit lines", interval: PRUNE_INTERVAL };
        pruner.run(|| self.forget()).await;
    }

    /// Deletes the lines that are too old now. Returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget(&self) -> Result<u64, repository::Error> {
        let before = self.clock.now() - self.keep;
        Pruner::delete_all(|most| audit::prune(&self.pool, before, most)).await
    }
}
