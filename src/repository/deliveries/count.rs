//! Counts of callbacks, with a limit so that they stay cheap.

use chrono::{DateTime, Utc};

use crate::repository::Error;
use crate::repository::Pool;

/// The limit of each count, because metrics are read every few seconds, for any number of
/// callbacks.
const MAX_COUNT: i64 = 10_000;

/// Callbacks by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// The number of waiting callbacks.
    pub pending: u64,
    /// The number of callbacks in flight.
    pub leased: u64,
    /// The number of callbacks that failed for good.
    pub failed: u64,
    /// The time of the oldest undelivered change, among the apps with active callbacks. Deliveries
    /// to a paused app are withheld and do not count as late.
    pub oldest: Option<DateTime<Utc>>,
}

/// Counts at most 10,000 undelivered callbacks and at most 10,000 failed ones. Above this limit,
/// the oldest is the oldest of the counted ones.
///
/// # Errors
/// When the database fails.
pub async fn count(pool: &Pool) -> Result<DeliveryCounts, Error> {
    let row = sqlx::query!(
        r#"
        with unfinished as (
            select state
            from delivery
            where state in ('pending', 'leased')
            -- This is the order of the index `delivery_due`, which holds only unfinished rows. So
            -- the planner never scans the whole table, even with outdated statistics.
            order by buin, app_id, due_at, version
            limit $1
        ), active as (
            select waiting.created_at
            from app
            cross join lateral (
                select delivery.created_at
                from delivery
                where delivery.buin = app.buin and delivery.app_id = app.app_id
                  and state in ('pending', 'leased')
                order by due_at, version
                limit $1
            ) as waiting
            where callback_url is not null and disabled_at is null
              and callbacks_paused_at is null and 'callbacks' = any(permissions)
            limit $1
        ), failed as (
            select 1
            from delivery
            where state = 'failed' and state in ('delivered', 'failed')
            order by finished_at
            limit $1
        )
        select count(*) filter (where state = 'pending') as "pending!",
               count(*) filter (where state = 'leased') as "leased!",
               (select count(*) from failed) as "failed!",
               (select min(created_at) from active) as oldest
        from unfinished
        "#,
        MAX_COUNT,
    )
    .fetch_one(pool)
    .await?;
    Ok(DeliveryCounts {
        pending: row.pending.unsigned_abs(),
        leased: row.leased.unsigned_abs(),
        failed: row.failed.unsigned_abs(),
        oldest: row.oldest,
    })
}
