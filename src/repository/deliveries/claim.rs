//! Claims due deliveries under a lease.
//!
//! The claim keeps the order of versions: for each session and app, only the earliest unfinished
//! delivery is claimed. Later deliveries, even those with an expired lease, are postponed to just
//! after it, so a session with a failed receiver costs nothing while it waits. The end of the
//! earlier delivery makes the next one due. Thus the first row in the order of `due_at` can always
//! be claimed or postponed, and every claim makes progress. Locked rows are not skipped: two
//! workers that claim the same row wait for each other, and the second one finds its `due_at`
//! changed.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{Executor as _, FromRow as _, PgConnection};

use super::claimed::{ClaimedDelivery, ClaimedRow};
use super::release::Lease;
use crate::domain::{AppId, Buin};
use crate::repository::Error;
use crate::repository::persistent::Persistent;
use crate::repository::sessions::StoredChanges;

/// The number of deliveries that a worker may claim for an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppCapacity {
    /// The enterprise of the app.
    pub buin: Buin,
    /// The app.
    pub app_id: AppId,
    /// The number of deliveries to the app that are in flight.
    pub in_flight: usize,
    /// The number of further deliveries that may be claimed.
    pub slots: usize,
    /// Whether the receiver failed for many sessions. The few slots must then show whether it fails
    /// for all. So every second slot goes to a delivery without an attempt, the newest first.
    pub probing: bool,
}

/// The result of a claim.
#[derive(Clone, Debug)]
pub struct ClaimBatch {
    /// The deliveries that belong to this worker until the lease ends.
    pub claimed: Vec<ClaimedDelivery>,
    /// Whether postponed deliveries hid other due ones. A worker with free slots should claim
    /// again.
    pub more: bool,
}

/// Claims up to `limit` deliveries that are due at `now`, and for each app at most its capacity.
/// They belong to the caller until the lease ends. After that, any worker can claim them.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn claim(
    connection: &mut PgConnection,
    capacities: &[AppCapacity],
    limit: usize,
    now: DateTime<Utc>,
    lease: &Lease,
) -> Result<ClaimBatch, Error> {
    let buins: Vec<i64> = capacities.iter().map(|capacity| capacity.buin.get()).collect();
    let app_ids: Vec<&str> = capacities.iter().map(|capacity| capacity.app_id.as_str()).collect();
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let in_flight: Vec<i64> = capacities.iter().map(|capacity| count(capacity.in_flight)).collect();
    let slots: Vec<i64> = capacities.iter().map(|capacity| count(capacity.slots)).collect();
    let probing: Vec<bool> = capacities.iter().map(|capacity| capacity.probing).collect();
    let Lease { id: lease, expires_at } = *lease;
    let rows = retry_on_deadlock!({
        let statement = sqlx::query_as!(
            ClaimedRow,
            r#"
        with room as (
            select * from unnest($1::bigint[], $2::text[], $3::bigint[], $8::bigint[], $9::bool[])
                as room (buin, app_id, places, taken, probes)
        ), candidate as (
            -- More than there is room for, because some will stand behind others.
            select due.*, room.buin, room.places, room.taken, room.probes
            from room
            cross join lateral (
                (
                    select ctid as place, session_id, app_id, version, due_at, tries
                    from delivery
                    where delivery.buin = room.buin and delivery.app_id = room.app_id
                      and state in ('pending', 'leased') and due_at <= $4
                    order by due_at, version
                    limit room.places + least(3 * room.places, 64)
                )
                union
                (
                    select ctid as place, session_id, app_id, version, due_at, tries
                    from delivery
                    where delivery.buin = room.buin and delivery.app_id = room.app_id
                      and state in ('pending', 'leased') and due_at <= $4
                    order by due_at desc, version desc
                    limit case when room.probes then 64 else 0 end
                )
            ) as due
        ), judged as (
            select candidate.*, earlier.due_at as behind
            from candidate
            left join lateral (
                -- What is being sent will have ended, and called the next, long before its lease
                -- does. Should the next have been written just then, unseen, it is not late.
                select case when state = 'leased' then least(due_at, $4 + interval '5 seconds')
                            else due_at end as due_at
                from delivery
                -- Nothing comes before a first version: that need not be looked for.
                where candidate.version > 1
                  and delivery.session_id = candidate.session_id
                  and delivery.app_id = candidate.app_id
                  and delivery.version < candidate.version
                  and delivery.state in ('pending', 'leased')
                order by delivery.version
                limit 1
            ) as earlier on true
        ), chosen as (
            select place, session_id, app_id, version, due_at
            from (
                select *, case when probes then least(2 * oldest - 1, 2 * newest) else oldest end
                       as rank
                from (
                    select *, row_number() over (
                               partition by buin, app_id order by due_at, version
                           ) as oldest,
                           row_number() over (
                               partition by buin, app_id order by tries, due_at desc, version desc
                           ) as newest
                    from judged
                    where behind is null
                ) as numbered
            ) as free
            where rank <= places
            -- Each app's first before any app's second: one with much to tell leaves room.
            order by taken + rank, due_at, version
            limit $5
        ), decided as (
            (
                -- The limit tells the planner that these are few: it would read the whole table
                -- else.
                select place, session_id, app_id, version, due_at, behind
                from judged
                where behind >= due_at
                limit 500
            )
            union all
            select place, session_id, app_id, version, due_at, null from chosen
        ), locked as (
            -- By its place, which no other row can have while this runs. A row that was changed since
            -- then has another `due_at`. There is no other way to find the rows, and must not be: by
            -- a plan that was made while the table was empty, each would be found by reading a whole
            -- index.
            select delivery.ctid as place, decided.behind
            from decided
            join delivery on delivery.ctid = decided.place and delivery.due_at = decided.due_at
                         and delivery.finished_at is null
            order by delivery.session_id, delivery.app_id, delivery.version
            for no key update of delivery
        ), touched as (
            update delivery
            set state = case when behind is null then 'leased' else 'pending' end,
                lease = case when behind is null then $6::uuid end,
                due_at = coalesce(behind + interval '1 microsecond', $7),
                attempts = attempts + case when behind is null then 1 else 0 end,
                tries = tries + case when behind is null then 1 else 0 end,
                first_tried_at = case when behind is null then coalesce(first_tried_at, $4)
                                      else first_tried_at end
            from locked
            where delivery.ctid = locked.place
            returning delivery.*
        ), taken as (
            select * from touched where state = 'leased'
        )
        -- One row at least, so that `more` is told where nothing was taken.
        select more.more as "more!", taken.session_id as "session_id?",
               taken.buin as "buin?", taken.app_id as "app_id?", taken.version as "version?",
               taken.attempts as "attempts?", taken.tries as "tries?", taken.first_tried_at,
               taken.trace,
               event.kind as "kind?", event.operator as "operator?", event.title as "title?",
               event.owner as "owner?", event.changes as "changes?: Json<StoredChanges<'static>>",
               event.created_at as "created_at?"
        from (
            select exists (select 1 from touched)
               and exists (select 1 from judged where behind is not null) as more
        ) as more
        left join (taken join session_event as event using (session_id, version)) on true
        "#,
            &buins,
            &app_ids as &[&str],
            &slots,
            now,
            count(limit),
            lease,
            expires_at,
            &in_flight,
            &probing,
        );
        connection.fetch_all(Persistent(statement)).await
    })?;
    let rows: Vec<ClaimedRow> = rows.iter().map(ClaimedRow::from_row).collect::<Result<_, _>>()?;
    let more = rows.first().is_some_and(|row| row.more);
    let in_flight = rows.into_iter().filter_map(|row| row.into_claimed(lease).transpose());
    Ok(ClaimBatch { claimed: in_flight.collect::<Result<_, _>>()?, more })
}
