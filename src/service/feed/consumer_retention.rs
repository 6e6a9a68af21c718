//! Removes consumers that are not used any more, so that their positions do not grow old for ever.

use std::time::Duration;

use crate::domain::ConsumerLimits;
use crate::repository;
use crate::repository::consumers;
use crate::service::{Pruner, Sessions};

/// The interval between two removals.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3_600);

impl Sessions {
    /// Removes unused consumers at intervals. Never completes.
    pub(in crate::service) async fn run_consumer_pruner(&self) {
        let pruner = Pruner { rows: "consumers", interval: PRUNE_INTERVAL };
        pruner.run(|| self.prune_consumers()).await;
    }

    /// Removes the consumers that were not used for [`ConsumerLimits::RETENTION`]. Returns their number.
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune_consumers(&self) -> Result<u64, repository::Error> {
        let shared = self.shared();
        let before = shared.clock.now() - ConsumerLimits::RETENTION;
        let prune = async |limit| {
            let removed = consumers::prune(&shared.pool, before, limit).await?;
            for (buin, app_id, name) in &removed {
                let buin = buin.get();
                tracing::warn!(buin, app_id, consumer = name, "removed an unused consumer");
            }
            Ok(u64::try_from(removed.len()).unwrap_or(u64::MAX))
        };
        Pruner::delete_all(prune).await
    }
}
