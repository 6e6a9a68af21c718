//! The selection: changes of the feed become changes that the members may get, or wait behind a parked one.
//!
//! The statement is planned each time, for the size that its tables have then.

use uuid::Uuid;

use super::position::FEW_HELD_BACK;
use super::row::{ConsumerPosition, number};
use crate::domain::{FeedSeq, SessionId, Version};
use crate::repository::{Error, Pool};

/// A change that the filter of a consumer selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectedEvent {
    /// Its number.
    pub seq: FeedSeq,
    /// The number of the change before it that the filter selects.
    pub prev_seq: FeedSeq,
    /// Its session.
    pub session_id: SessionId,
    /// The version that the change made.
    pub version: Version,
}

/// The numbers of selected changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Those that a member may get.
    pub ready: u64,
    /// Those that wait behind a parked change of their session.
    pub held_back: u64,
}

/// Moves a consumer from the position `from` to a later position. `events` are the changes between them that
/// its filter selects. Returns `None`, without any effect, if another request moved the consumer, held back
/// or released some of its changes, or reset it meanwhile.
///
/// # Errors
/// When the database fails.
pub async fn select(
    pool: &Pool,
    consumer_id: Uuid,
    from: FeedSeq,
    to: &ConsumerPosition,
    events: &[SelectedEvent],
) -> Result<Option<Selection>, Error> {
    let seqs: Vec<i64> = events.iter().map(|event| event.seq.get()).collect();
    let prev_seqs: Vec<i64> = events.iter().map(|event| event.prev_seq.get()).collect();
    let session_ids: Vec<Uuid> = events.iter().map(|event| event.session_id.uuid()).collect();
    let versions: Vec<i64> = events.iter().map(|event| event.version.get()).collect();
    let statement = sqlx::query!(
        r#"
        with consumer_row as materialized (
            -- Waits for a reset or a release, which lock the row for an update of its key.
            select consumer_id from consumer where consumer_id = $1 for key share
        ), seen as materialized (
            select ready_after, held_back
            from consumer_position
            where consumer_id = $1 and position = $2
        ), first_ready as materialized (
            select seq
            from consumer_event
            where consumer_id = $1 and seq > (select ready_after from seen)
            order by seq
            limit 1
        ), held_session as materialized (
            select distinct session_id
            from consumer_held_event
            where consumer_id = $1
              and (select held_back from seen) between 1 and $9::bigint
        ), behind as materialized (
            select session_id from held_session
            union all
            select session.session_id
            from (select distinct unnest($7::uuid[]) as session_id) as session
            cross join lateral (
                select
                from consumer_held_event
                where consumer_id = $1 and consumer_held_event.session_id = session.session_id
                limit 1
            ) as held
            where (select held_back from seen) > $9::bigint
        ), item as materialized (
            select seq, prev_seq, session_id, version,
                   session_id in (select session_id from behind) as is_held_back
            from unnest($5::bigint[], $6::bigint[], $7::uuid[], $8::bigint[])
                as item (seq, prev_seq, session_id, version)
        ), taken as (
            -- A claim or a release that moved events in between is not in what this statement sees.
            delete from consumer_position
            where consumer_id = (select consumer_id from consumer_row) and position = $2
              and ready_after = (select ready_after from seen)
              and held_back = (select held_back from seen)
            returning held_back
        ), new_position as (
            insert into consumer_position (consumer_id, position, cursor, ready_after, held_back)
            select $1, $3, $4, coalesce((select seq - 1 from first_ready), $2),
                   taken.held_back + (select count(*) from item where is_held_back)
            from taken
        ), sized as materialized (
            select item.*, event.bytes
            from taken
            cross join item
            cross join lateral (
                select octet_length(changes::text) + coalesce(octet_length(attributes::text), 0)
                           as bytes
                from session_event
                where session_event.session_id = item.session_id
                  and session_event.version = item.version
                offset 0
            ) as event
        ), new_event as (
            insert into consumer_event (consumer_id, seq, prev_seq, session_id, version, bytes)
            select $1, seq, prev_seq, session_id, version, bytes
            from sized
            where not is_held_back
        ), new_held_event as (
            insert into consumer_held_event (
                consumer_id, session_id, seq, prev_seq, version, bytes, attempts
            )
            select $1, session_id, seq, prev_seq, version, bytes, 0
            from sized
            where is_held_back
        )
        select exists (select from taken) as "is_moved!",
               (select count(*) from item where not is_held_back) as "ready!",
               (select count(*) from item where is_held_back) as "held_back!"
        "#,
        consumer_id,
        from.get(),
        to.seq.get(),
        to.cursor,
        &seqs,
        &prev_seqs,
        &session_ids,
        &versions,
        FEW_HELD_BACK,
    );
    let row = statement.fetch_one(pool).await?;
    let selection = || Selection { ready: number(row.ready), held_back: number(row.held_back) };
    Ok(row.is_moved.then(selection))
}
