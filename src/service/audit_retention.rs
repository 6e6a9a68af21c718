//! Deletes audit entries that are older than the configured retention.

use std::time::Duration;

use super::Pruner;
use crate::clock::Clock;
use crate::domain::Actor;
use crate::repository::audit::{self, AuditContext};
use crate::repository::{self, Pool};

/// The interval between two deletions.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3_600);

/// Deletes old audit entries.
pub struct AuditRetention {
    /// The database.
    pub pool: Pool,
    /// The current time.
    pub clock: Clock,
    /// The maximum age of an entry.
    pub max_age: Duration,
    /// The user and the process that delete, for the audit.
    pub actor: Actor,
}

impl AuditRetention {
    /// Deletes old entries at intervals. Never completes.
    pub async fn run(self) {
        let pruner = Pruner { rows: "audit lines", interval: PRUNE_INTERVAL };
        pruner.run(|| self.prune()).await;
    }

    /// Deletes the entries that are too old now, and writes an entry of each batch. Returns the number of
    /// deleted ones.
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune(&self) -> Result<u64, repository::Error> {
        let context = AuditContext { actor: &self.actor, at: self.clock.now() };
        let before = context.at - self.max_age;
        Pruner::delete_all(|limit| audit::prune(&self.pool, before, limit, context)).await
    }
}
