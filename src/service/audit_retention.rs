//! Deletes audit lines that are older than the configured retention.

use std::time::Duration;

use super::Pruner;
use crate::clock::Clock;
use crate::repository::{self, Pool, audit};

/// How often old lines are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3_600);

/// Deletes old audit lines.
pub struct AuditRetention {
    /// The database.
    pub pool: Pool,
    /// The present time.
    pub clock: Clock,
    /// The greatest age of a line.
    pub max_age: Duration,
}

impl AuditRetention {
    /// Deletes old lines, at intervals. Runs until it is dropped.
    pub async fn run(self) {
        let pruner = Pruner { rows: "audit lines", interval: PRUNE_INTERVAL };
        pruner.run(|| self.prune()).await;
    }

    /// Deletes the lines that are too old now. Returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune(&self) -> Result<u64, repository::Error> {
        let before = self.clock.now() - self.max_age;
        Pruner::delete_all(|most| audit::prune(&self.pool, before, most)).await
    }
}
