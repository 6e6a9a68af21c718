//! The move of changes from `outbox` into `feed`, and the lock that lets one server do it.
//!
//! The lock belongs to the session of the connection, and the statement runs only on a connection
//! that holds it. PostgreSQL releases the lock after the session has ended, with its last statement.
//! So a server that has lost its connection can write nothing into `feed`, whenever it wakes up.

use chrono::{DateTime, Utc};
use sqlx::{Executor as _, FromRow, PgConnection};

use super::FeedPosition;
use crate::repository::Error;
use crate::repository::connections::persistent::Persistent;

/// The result of a move.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SequencedBatch {
    /// The number of changes that were moved.
    pub count: u64,
    /// The position of the last change in the feed.
    pub head: FeedPosition,
    /// The age of the oldest of the moved changes, in seconds; `None` if no change was moved.
    pub oldest_age: Option<f64>,
}

#[derive(FromRow)]
struct BatchRow {
    #[sqlx(rename = "count!")]
    count: i64,
    #[sqlx(rename = "head!")]
    head: i64,
    oldest_age: Option<f64>,
}

/// Tries to get the lock. Returns whether the connection has it now; `None` if the feed is switched
/// off by the setting `muster.feed` of the database, which benchmarks use.
///
/// # Errors
/// When the database fails.
pub async fn try_lead(connection: &mut PgConnection) -> Result<Option<bool>, Error> {
    // The key is unique in the database, also if several schemas have tables of Muster: its upper
    // half is "Must" in ASCII.
    let statement = sqlx::query_scalar!(
        r#"
        select case
            when coalesce(current_setting('muster.feed', true), '') <> 'off'
            then pg_try_advisory_lock(
                (x'4d757374'::int::bigint << 32) | 'outbox'::regclass::oid::bigint
            )
        end as is_leader
        "#
    );
    let row = connection.fetch_one(Persistent(statement)).await?;
    Ok(sqlx::Row::try_get(&row, 0)?)
}

/// Like [`try_lead`], for a lock that ends with the transaction of the connection, and so with each move.
///
/// # Errors
/// When the database fails.
pub async fn try_lead_in_transaction(connection: &mut PgConnection) -> Result<Option<bool>, Error> {
    let statement = sqlx::query_scalar(
        "select case
            when coalesce(current_setting('muster.feed', true), '') <> 'off'
            then pg_try_advisory_xact_lock(
                (x'4d757374'::int::bigint << 32) | 'outbox'::regclass::oid::bigint
            )
        end",
    );
    Ok(statement.persistent(true).fetch_one(connection).await?)
}

/// Ends the session that holds the lock, if it is the one of the process `pid` and runs no
/// statement. A running statement ends by itself. Returns whether the session was ended.
///
/// # Errors
/// When the database fails, or when this role may not end sessions of that role.
pub async fn end_leader(connection: &mut PgConnection, pid: i32) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select coalesce(bool_or(pg_terminate_backend(activity.pid, 200)), false) as "ended!"
        from pg_locks
        join pg_stat_activity as activity using (pid)
        where pid = $1 and locktype = 'advisory' and granted and objsubid = 1
          and pg_locks.database = (select oid from pg_database where datname = current_database())
          and classid = x'4d757374'::int::oid and objid = 'outbox'::regclass::oid
          and state is distinct from 'active'
        "#,
        pid,
    )
    .fetch_one(connection)
    .await?)
}

/// Moves all visible changes since `floor` into the feed. The connection must have the lock.
///
/// Changes of one session keep their order, because the times of its changes never decrease.
///
/// # Errors
/// When the database fails. The changes are then in `outbox` or in `feed`.
pub async fn sequence(
    connection: &mut PgConnection,
    floor: DateTime<Utc>,
) -> Result<SequencedBatch, Error> {
    let statement = sqlx::query_as!(
        BatchRow,
        r#"
        with taken as (
            delete from outbox where written_at >= $1
            returning written_at, session_ids, versions
        ), change as materialized (
            select event.*
            from taken
            cross join lateral unnest(taken.session_ids, taken.versions)
                as written (session_id, version)
            cross join lateral (
                select buin, session_id, version, kind, app_id, created_at
                from session_event
                where session_event.session_id = written.session_id
                  and session_event.version = written.version
                offset 0
            ) as event
        ), head as materialized (
            select coalesce(max(position), 0) as position,
                   greatest(
                       max(sequenced_at), (select max(created_at) from change), clock_timestamp()
                   ) as sequenced_at
            from (
                select position, sequenced_at from feed order by position desc limit 1
            ) as last
        ), enterprise as materialized (
            select buin, coalesce((
                       select seq
                       from feed
                       where feed.buin = changed.buin
                       order by feed.buin desc, seq desc
                       limit 1
                   ), 0) as seq
            from (select distinct buin from change) as changed
        ), new_change as (
            insert into feed (
                position, buin, seq, session_id, version, kind, app_id, sequenced_at
            )
            select head.position + row_number() over (order by created_at, version, session_id),
                   buin,
                   enterprise.seq + row_number() over (
                       partition by buin order by created_at, version, session_id
                   ),
                   session_id, version, kind, app_id, head.sequenced_at
            from change
            join enterprise using (buin)
            cross join head
            returning position
        )
        select (select count(*) from new_change) as "count!",
               head.position + (select count(*) from new_change) as "head!",
               extract(epoch from clock_timestamp() - (select min(written_at) from taken))::float8
                   as oldest_age
        from head
        "#,
        floor,
    );
    let row = connection.fetch_one(Persistent(statement)).await?;
    let BatchRow { count, head, oldest_age } = BatchRow::from_row(&row)?;
    Ok(SequencedBatch {
        count: u64::try_from(count).unwrap_or_default(),
        head: FeedPosition::new(head),
        oldest_age,
    })
}
