//! Positions in the feed of an enterprise: its end, the position of a time, and the check of a position.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Executor as _, Row as _};
use uuid::Uuid;

use super::page::{EnterprisePosition, row};
use crate::domain::{Buin, FeedSeq, SessionId, Version};
use crate::repository::connections::persistent::Persistent;
use crate::repository::error::corrupt;
use crate::repository::{Error, Pool};

/// The change at a position, and the end of the feed, of one snapshot of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedPosition {
    /// The identity of the line of history.
    pub epoch: Uuid,
    /// The change at the position, if there is one.
    pub change: Option<(SessionId, Version)>,
    /// The time at which the change got its number: no change up to it is later.
    pub numbered_at: Option<DateTime<Utc>>,
    /// The last change of the enterprise.
    pub head: EnterprisePosition,
    /// The age of the change after the position.
    pub lag: Duration,
}

/// Reads the change `seq` and the end of the feed.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn check_position(
    pool: &Pool,
    buin: Buin,
    seq: FeedSeq,
) -> Result<CheckedPosition, Error> {
    let statement = sqlx::query!(
        r#"
        select epoch, change.session_id as "session_id?", change.version as "version?",
               head.seq as "head_seq?", head.session_id as "head_id?",
               head.version as "head_version?", following.age as "age?",
               change.sequenced_at as "numbered_at?"
        from feed_state
        left join lateral (
            select session_id, version, sequenced_at
            from feed
            where buin = $1 and seq = $2
            offset 0
        ) as change on true
        left join lateral (
            select extract(epoch from clock_timestamp() - sequenced_at)::float8 as age
            from feed
            where buin = $1 and seq > $2
            order by buin, seq
            limit 1
        ) as following on true
        left join lateral (
            select seq, session_id, version
            from feed
            where buin = $1
            order by buin desc, seq desc
            limit 1
        ) as head on true
        "#,
        buin.get(),
        seq.get(),
    );
    let found = pool.fetch_one(Persistent(statement)).await?;
    let head: i64 = found.try_get::<Option<i64>, _>(3)?.unwrap_or_default();
    Ok(CheckedPosition {
        epoch: found.try_get(0)?,
        change: row::change(found.try_get(1)?, found.try_get(2)?)?,
        head: EnterprisePosition {
            seq: row::seq(head)?,
            change: row::change(found.try_get(4)?, found.try_get(5)?)?,
        },
        numbered_at: found.try_get(7)?,
        lag: row::lag(found.try_get(6)?),
    })
}

/// The last change that was numbered at `at` or earlier; 0 if all changes are later. Every change that is
/// later than `at` follows it, because the time of a number is never before that of its change.
///
/// # Errors
/// When the database fails.
pub async fn seq_at(pool: &Pool, buin: Buin, at: DateTime<Utc>) -> Result<FeedSeq, Error> {
    // The times never decrease, so the statement halves the range of numbers until one is left.
    let statement = sqlx::query_scalar!(
        r#"
        with recursive range (first, last) as (
            select 0::bigint, coalesce((
                select seq from feed where buin = $1 order by buin desc, seq desc limit 1
            ), 0)
            union all
            select case when sequenced_at <= $2 then middle else first end,
                   case when sequenced_at <= $2 then last else middle - 1 end
            from range
            cross join lateral (select (first + last + 1) / 2 as middle offset 0) as half
            cross join lateral (
                select sequenced_at from feed where buin = $1 and seq = middle offset 0
            ) as change
            where first < last
        )
        select first as "first!" from range where first = last
        "#,
        buin.get(),
        at,
    );
    let found: i64 = pool.fetch_one(Persistent(statement)).await?.try_get(0)?;
    FeedSeq::new(found).map_err(corrupt("feed", "seq", found))
}
