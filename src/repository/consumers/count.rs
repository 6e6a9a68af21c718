//! Sums over all consumers, for the metrics.

use chrono::{DateTime, Utc};

use super::position::{with_position, with_progress};
use super::row::number;
use crate::repository::{Error, Pool};

/// Sums over all consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerCounts {
    /// The number of consumers.
    pub consumers: u64,
    /// The number of those that were not used for long.
    pub idle: u64,
    /// The largest number of changes of an enterprise that one of its consumers has not done.
    pub max_lag: u64,
    /// The number of changes that members have under a lease.
    pub leased: u64,
    /// The number of changes that members may get.
    pub ready: u64,
    /// The number of parked changes.
    pub parked: u64,
}

/// Sums over all consumers. Those that were not used since `idle_before` are idle.
///
/// # Errors
/// When the database fails.
pub async fn count(pool: &Pool, idle_before: DateTime<Utc>) -> Result<ConsumerCounts, Error> {
    let row = with_progress!(
        query!(),
        [r#"
        select count(*) as "consumers!", count(*) filter (where used_at < $1) as "idle!",
               coalesce(max(
                   head.seq - coalesce(least(active.oldest, held_back.oldest) - 1, last.position)
               ), 0) as "max_lag!",
               coalesce(sum(active.leased), 0)::bigint as "leased!",
               coalesce(sum(active.ready), 0)::bigint as "ready!",
               coalesce(sum(held_back.parked), 0)::bigint as "parked!"
        from consumer"#],
        [r#"
        cross join lateral (
            select count(parked_at) as parked, min(seq) as oldest
            from consumer_held_event
            where consumer_held_event.consumer_id = consumer.consumer_id
        ) as held_back
        "#],
        (idle_before,),
    )
    .fetch_one(pool)
    .await?;
    Ok(ConsumerCounts {
        consumers: number(row.consumers),
        idle: number(row.idle),
        max_lag: number(row.max_lag),
        leased: number(row.leased),
        ready: number(row.ready),
        parked: number(row.parked),
    })
}
