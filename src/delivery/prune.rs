//! Deleting deliveries that have been kept long enough.

use std::time::Duration;

use super::Options;
use crate::clock::Clock;
use crate::domain::DeliveryState;
use crate::repository::{self, PgPool, deliveries};

/// How many old deliveries one statement deletes.
const PRUNED_AT_ONCE: i64 = 1_000;
/// How often it is looked for what is too old.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Deletes what has been kept long enough, for ever.
pub(super) async fn keep_tidy(pool: PgPool, clock: Clock, options: Options) {
    loop {
        if let Err(error) = prune(&pool, &clock, &options).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "old deliveries could not be deleted; trying again"
            );
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}

/// Deletes what has been kept long enough now, in small batches. Gives how many.
///
/// # Errors
/// When the database fails.
pub async fn prune(
    pool: &PgPool,
    clock: &Clock,
    options: &Options,
) -> Result<u64, repository::Error> {
    let now = clock.now();
    let mut pruned = 0;
    for (state, keep) in [
        (DeliveryState::Delivered, options.keep_delivered),
        (DeliveryState::Failed, options.keep_failed),
    ] {
        loop {
            let batch = deliveries::prune(pool, state, now - keep, PRUNED_AT_ONCE).await?;
            pruned += batch;
            if batch < PRUNED_AT_ONCE.unsigned_abs() {
                break;
            }
        }
    }
    Ok(pruned)
}
