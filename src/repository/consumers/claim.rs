//! The claim: a member takes changes for the time of a lease.
//!
//! A session is taken from its first change on. The statement locks this change and skips sessions whose
//! first change another claim has locked. So one member at a time has changes of a session, and a change is
//! not handed out while an earlier one of its session is leased or parked. The checks of a locked row are
//! repeated by PostgreSQL on its newest version, so a claim that began before another one committed takes
//! nothing twice.
//!
//! The surprise: each part seeks its rows by the key of the consumer and a range of numbers, and joins
//! nothing. `seq + 0` keeps the list of numbers out of the seek: by bad statistics, many seeks of an index
//! cost more than the whole table. The statement is planned each time: a plan that was made while the table
//! had no page would read the whole table later.

use serde_json::{Map, Value};
use sqlx::types::Json;

use super::claimed::{ClaimRow, ConsumerClaim};
use super::position::{FEW_HELD_BACK, with_position};
use crate::domain::{App, ConsumerLimits, ConsumerMember, ConsumerName};
use crate::repository::sessions::StoredChanges;
use crate::repository::{Error, Pool};

/// Takes up to `max` changes for `member`, with at most [`ConsumerLimits::MAX_FETCH_BYTES`]. Changes that
/// were handed out too often are parked instead. `None` if the app has no such consumer.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn claim(
    pool: &Pool,
    app: &App,
    name: &ConsumerName,
    member: &ConsumerMember,
    max: usize,
) -> Result<Option<ConsumerClaim>, Error> {
    let statement = with_position!(
        query_as!(ClaimRow,),
        [r#"
        with consumer_state as materialized (
            select consumer.*, consumer.epoch = feed_state.epoch as is_current,
                   last.position, last.cursor, last.ready_after, last.held_back,
                   clock_timestamp() as now
            from consumer
            cross join feed_state"#],
        [r#"
            where consumer.buin = $1 and consumer.app_id = $2 and consumer.name = $3
        ), active as materialized (
            select event.*,
                   bool_or(coalesce(event.lease_until > consumer_state.now, false))
                       over (partition by event.session_id) as is_held,
                   row_number() over (partition by event.session_id order by event.seq) as rank
            from consumer_state
            cross join (
                select seq, session_id, bytes, lease_until
                from consumer_event
                where consumer_id = (select consumer_id from consumer_state where is_current)
                  and seq > (select ready_after from consumer_state)
                order by seq
                limit $9
            ) as event
        ), held_session as materialized (
            select distinct session_id
            from consumer_held_event
            where consumer_id = (
                select consumer_id from consumer_state where held_back between 1 and $10::bigint
            )
        ), behind as materialized (
            -- Sessions with a parked change. Usually none has an active one.
            select session_id
            from active
            where rank = 1 and (session_id in (select session_id from held_session)) is true
            union all
            select active.session_id
            from active
            cross join lateral (
                select
                from consumer_held_event
                where consumer_id = (select consumer_id from consumer_state)
                  and consumer_held_event.session_id = active.session_id
                limit 1
            ) as held_event
            where active.rank = 1 and (select held_back from consumer_state) > $10::bigint
        ), head as materialized (
            select seq, session_id, attempts
            from consumer_event
            where consumer_id = (select consumer_id from consumer_state)
              and seq between (select min(seq) from active) and (select max(seq) from active)
              and seq + 0 = any(array(
                  select seq
                  from active
                  where rank = 1 and not is_held
                    and session_id not in (select session_id from behind)
              ))
              and (lease_until is null or lease_until <= (select now from consumer_state))
            order by seq
            limit $5
            for update skip locked
        ), picked as materialized (
            select seq
            from (
                select active.seq, row_number() over by_seq as number,
                       sum(active.bytes) over by_seq as total
                from active
                where active.session_id in (select session_id from head where attempts < $8)
                   or active.seq in (select seq from head where attempts < $7)
                window by_seq as (order by active.seq)
            ) as candidate
            where number <= $5 and (number = 1 or total <= $6::bigint)
        ), chosen as materialized (
            -- Locked in the order of the key. No other claim has one of these sessions.
            select seq
            from consumer_event
            where consumer_id = (select consumer_id from consumer_state)
              and seq between (select min(seq) from picked) and (select max(seq) from picked)
              and seq + 0 = any(array(select seq from picked))
            order by seq
            for update
        ), leased as (
            update consumer_event
            set member = $4, attempts = consumer_event.attempts + 1,
                lease_until = (
                    select now + make_interval(secs => lease_seconds) from consumer_state
                )
            where consumer_id = (select consumer_id from consumer_state)
              and seq between (select min(seq) from picked) and (select max(seq) from picked)
              and seq + 0 = any(array(select seq from chosen))
            returning seq, prev_seq, session_id, version, attempts, lease_until
        ), unfit as materialized (
            -- The changes to hold back: those that failed, and the later ones of their sessions.
            select seq
            from active
            where session_id in (select session_id from behind)
               or session_id in (select session_id from head where attempts >= $7)
        ), held as materialized (
            select seq
            from consumer_event
            where consumer_id = (select consumer_id from consumer_state)
              and seq between (select min(seq) from unfit) and (select max(seq) from unfit)
              and seq + 0 = any(array(select seq from unfit))
            order by seq
            for update skip locked
        ), counted as (
            -- Without effect if a selection has moved the position: the next claim holds them back.
            update consumer_position
            set held_back = consumer_position.held_back + (select count(*) from held)
            where consumer_id = (select consumer_id from consumer_state)
              and position = (select position from consumer_state)
              and exists (select from held)
            returning consumer_id
        ), removed as (
            delete from consumer_event
            where consumer_id = (select consumer_id from counted)
              and seq between (select min(seq) from held) and (select max(seq) from held)
              and seq + 0 = any(array(select seq from held))
            returning consumer_id, session_id, seq, version, prev_seq, bytes, attempts, member
        ), new_held_event as (
            insert into consumer_held_event (
                consumer_id, session_id, seq, version, prev_seq, bytes, attempts, member, parked_at
            )
            select consumer_id, session_id, seq, version, prev_seq, bytes, attempts, member,
                   case when seq in (select seq from head where attempts >= $7)
                        then (select now from consumer_state) end
            from removed
        )
        select consumer_state.consumer_id, consumer_state.is_current as "is_current!",
               consumer_state.used_at < consumer_state.now - interval '1 hour' as "is_use_old!",
               filter_member, filter_owner, filter_session_id, filter_kind, filter_app_id,
               consumer_state.position, consumer_state.cursor, consumer_state.held_back,
               (select count(*) from active) as "active!",
               leased.seq as "seq?", leased.prev_seq as "prev_seq?",
               leased.session_id as "session_id?", leased.version as "version?",
               leased.attempts as "attempts?", leased.lease_until as "lease_until?",
               event.kind as "kind?", event.operator as "operator?", event.app_id as "app_id?",
               event.reason as "reason?", event.changes as "changes?: Json<StoredChanges<'static>>",
               event.attributes as "attributes?: Json<Map<String, Value>>",
               event.created_at as "created_at?"
        from consumer_state
        left join leased on true
        left join lateral (
            select kind, operator, app_id, reason, changes, attributes, created_at
            from session_event
            where session_event.session_id = leased.session_id
              and session_event.version = leased.version
            offset 0
        ) as event on true
        order by leased.seq
        "#],
        (
            app.buin.get(),
            app.app_id.as_str(),
            name.as_str(),
            member.as_str(),
            i64::try_from(max).unwrap_or(i64::MAX),
            i64::try_from(ConsumerLimits::MAX_FETCH_BYTES).unwrap_or(i64::MAX),
            i32::try_from(ConsumerLimits::MAX_ATTEMPTS).unwrap_or(i32::MAX),
            i32::try_from(ConsumerLimits::MAX_SHARED_ATTEMPTS).unwrap_or(i32::MAX),
            i64::try_from(ConsumerLimits::MAX_ACTIVE).unwrap_or(i64::MAX),
            FEW_HELD_BACK,
        ),
    );
    let mut claim = None;
    for mut row in statement.fetch_all(pool).await? {
        let event = row.take_event()?;
        let claim = match &mut claim {
            Some(claim) => claim,
            None => claim.insert(ConsumerClaim::try_from(row)?),
        };
        claim.events.extend(event);
    }
    Ok(claim)
}
