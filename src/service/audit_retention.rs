//! Keeping the record of administrative acts no longer than it is wished.

use std::time::Duration;

use super::Pruner;
use crate::clock::Clock;
use crate::repository::{self, PgPool, audit};

/// How often old lines are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3_600);

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
