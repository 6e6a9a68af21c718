//! The check of a member that waits, and the record of the use of a consumer.

use std::time::Duration;

use uuid::Uuid;

use super::position::with_position;
use crate::domain::{App, ConsumerLimits, ConsumerName};
use crate::repository::{Error, Pool};

struct AvailabilityRow {
    is_claimable: bool,
    free_in: Option<f64>,
}

/// The state of a consumer that a waiting member must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerAvailability {
    /// Whether a fetch may find an event: one is free, or the feed has changes that were not read. Also
    /// `true` if the consumer is missing or of another line of history, which a fetch reports.
    pub is_claimable: bool,
    /// The time after which an event is free because a lease ends; `None` if no event is leased.
    pub free_in: Option<Duration>,
}

/// Checks a consumer for a member that waits. Nothing is written or locked. The statement is planned each
/// time, for the size that its tables have then.
///
/// # Errors
/// When the database fails.
pub async fn check_availability(
    pool: &Pool,
    app: &App,
    name: &ConsumerName,
) -> Result<ConsumerAvailability, Error> {
    let statement = with_position!(
        query_as!(AvailabilityRow,),
        [r#"
        with consumer_state as materialized (
            select consumer.consumer_id, consumer.epoch = feed_state.epoch as is_current,
                   last.position, last.ready_after, last.held_back, clock_timestamp() as now
            from consumer
            cross join feed_state"#],
        [r#"
            where consumer.buin = $1 and consumer.app_id = $2 and consumer.name = $3
        ), active as materialized (
            -- A session is free if no lease of its events goes on.
            select count(*) as events,
                   greatest(extract(epoch from max(event.lease_until) - consumer_state.now), 0)::float8
                       as free_in
            from consumer_state
            cross join (
                select session_id, lease_until
                from consumer_event
                where consumer_id = (select consumer_id from consumer_state)
                  and seq > (select ready_after from consumer_state)
                order by seq
                limit $4
            ) as event
            group by event.session_id, consumer_state.now
        )
        select not exists (select from consumer_state where is_current)
               or exists (select from active where free_in = 0)
               or coalesce((select sum(events) from active), 0) < $4::bigint
               and (select position from consumer_state where held_back < $5) < coalesce((
                   select seq from feed where buin = $1 order by feed.buin desc, seq desc limit 1
               ), 0) as "is_claimable!",
               (select min(free_in) from active) as "free_in?"
        "#],
        (
            app.buin.get(),
            app.app_id.as_str(),
            name.as_str(),
            i64::try_from(ConsumerLimits::MAX_ACTIVE).unwrap_or(i64::MAX),
            i64::try_from(ConsumerLimits::MAX_HELD_BACK).unwrap_or(i64::MAX),
        ),
    );
    let AvailabilityRow { is_claimable, free_in } = statement.fetch_one(pool).await?;
    let free_in = free_in.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
    Ok(ConsumerAvailability { is_claimable, free_in })
}

/// Renews the time of the last use of a consumer.
///
/// # Errors
/// When the database fails.
pub async fn touch(pool: &Pool, consumer_id: Uuid) -> Result<(), Error> {
    sqlx::query!(
        "update consumer set used_at = clock_timestamp() where consumer_id = $1",
        consumer_id,
    )
    .execute(pool)
    .await?;
    Ok(())
}
