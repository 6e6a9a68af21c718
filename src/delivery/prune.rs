//! Deletes deliveries whose retention is over.

use std::time::Duration;

use super::Options;
use crate::clock::Clock;
use crate::domain::DeliveryState;
use crate::repository::{self, Pool, deliveries};
use crate::service::Pruner;

/// The interval at which old deliveries are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// Deletes old deliveries at intervals, until the future is dropped.
pub(super) async fn run_pruner(pool: Pool, clock: Clock, options: Options) {
    let pruner = Pruner { rows: "deliveries", interval: PRUNE_INTERVAL };
    pruner.run(|| prune(&pool, &clock, &options)).await;
}

/// Deletes the deliveries whose retention is over now, in small batches. Returns their number.
///
/// # Errors
/// If the database fails.
pub async fn prune(
    pool: &Pool,
    clock: &Clock,
    options: &Options,
) -> Result<u64, repository::Error> {
    let now = clock.now();
    let mut pruned = 0;
    for (state, retention) in [
        (DeliveryState::Delivered, options.delivered_retention),
        (DeliveryState::Failed, options.failed_retention),
    ] {
        pruned +=
            Pruner::delete_all(|limit| deliveries::prune(pool, state, now - retention, limit))
                .await?;
    }
    Ok(pruned)
}
