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
use crate::repository::connections::persistent::Persistent;
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
        with capacity as (
            select * from unnest($1::bigint[], $2::text[], $3::bigint[], $8::bigint[], $9::bool[])
                as capacity (buin, app_id, slots, in_flight, probing)
        ), candidate as (
            -- There are more candidates than slots, because an earlier version may block some.
            select due.*, capacity.buin, capacity.slots, capacity.in_flight, capacity.probing
            from capacity
            cross join lateral (
                (
                    select ctid as row_id, session_id, app_id, version, due_at, tries
                    from delivery
                    where delivery.buin = capacity.buin and delivery.app_id = capacity.app_id
                      and state in ('pending', 'leased') and due_at <= $4
                    order by due_at, version
                    limit capacity.slots + least(3 * capacity.slots, 64)
                )
                union
                (
                    select ctid as row_id, session_id, app_id, version, due_at, tries
                    from delivery
                    where delivery.buin = capacity.buin and delivery.app_id = capacity.app_id
                      and state in ('pending', 'leased') and due_at <= $4
                    order by due_at desc, version desc
                    limit case when capacity.probing then 64 else 0 end
                )
            ) as due
        ), checked as (
            select candidate.*, earlier.due_at as blocked_until
            from candidate
            left join lateral (
                -- An attempt usually ends long before its lease, and its end makes the next version
                -- due. A next version that was committed at the same moment may be missed. The
                -- limit of 5 seconds bounds its delay.
                select case when state = 'leased' then least(due_at, $4 + interval '5 seconds')
                            else due_at end as due_at
                from delivery
                -- Version 1 has no earlier version, so the lookup is skipped.
                where candidate.version > 1
                  and delivery.session_id = candidate.session_id
                  and delivery.app_id = candidate.app_id
                  and delivery.version < candidate.version
                  and delivery.state in ('pending', 'leased')
                order by delivery.version
                limit 1
            ) as earlier on true
        ), selected as (
            select row_id, session_id, app_id, version, due_at
            from (
                select *, case when probing then least(2 * oldest_rank - 1, 2 * newest_rank)
                               else oldest_rank end as rank
                from (
                    select *, row_number() over (
                               partition by buin, app_id order by due_at, version
                           ) as oldest_rank,
                           row_number() over (
                               partition by buin, app_id order by tries, due_at desc, version desc
                           ) as newest_rank
                    from checked
                    where blocked_until is null
                ) as numbered
            ) as ranked
            where rank <= slots
            -- Apps take turns, so that an app with many due deliveries does not fill the batch.
            order by in_flight + rank, due_at, version
            limit $5
        ), target as (
            (
                -- Without the limit, the planner expects many rows and scans the whole table.
                select row_id, session_id, app_id, version, due_at, blocked_until
                from checked
                where blocked_until >= due_at
                limit 500
            )
            union all
            select row_id, session_id, app_id, version, due_at, null from selected
        ), locked as (
            -- A `ctid` names the same row while this statement runs. A row that was changed
            -- meanwhile has another `due_at`. A join by key would be slow with a plan that was made
            -- while the table was empty: each row would cost a scan of a whole index.
            select delivery.ctid as row_id, target.blocked_until
            from target
            join delivery on delivery.ctid = target.row_id and delivery.due_at = target.due_at
                         and delivery.finished_at is null
            order by delivery.session_id, delivery.app_id, delivery.version
            for no key update of delivery
        ), updated as (
            update delivery
            set state = case when blocked_until is null then 'leased' else 'pending' end,
                lease = case when blocked_until is null then $6::uuid end,
                due_at = coalesce(blocked_until + interval '1 microsecond', $7),
                attempts = attempts + case when blocked_until is null then 1 else 0 end,
                tries = tries + case when blocked_until is null then 1 else 0 end,
                first_tried_at = case when blocked_until is null then coalesce(first_tried_at, $4)
                                      else first_tried_at end
            from locked
            where delivery.ctid = locked.row_id
            returning delivery.*
        ), claimed as (
            select * from updated where state = 'leased'
        )
        -- The result has at least one row, so that `more` is known if no delivery was claimed.
        select summary.more as "more!", claimed.session_id as "session_id?",
               claimed.buin as "buin?", claimed.app_id as "app_id?", claimed.version as "version?",
               claimed.attempts as "attempts?", claimed.tries as "tries?", claimed.first_tried_at,
               claimed.trace,
               event.kind as "kind?", event.operator as "operator?", event.title as "title?",
               event.owner as "owner?", event.changes as "changes?: Json<StoredChanges<'static>>",
               event.created_at as "created_at?"
        from (
            select exists (select 1 from updated)
               and exists (select 1 from checked where blocked_until is not null) as more
        ) as summary
        left join (claimed join session_event as event using (session_id, version)) on true
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
    let claimed = rows.into_iter().filter_map(|row| row.into_claimed(lease).transpose());
    Ok(ClaimBatch { claimed: claimed.collect::<Result<_, _>>()?, more })
}
