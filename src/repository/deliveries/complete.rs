//! Stores the results of attempts.

use chrono::{DateTime, Utc};
use sqlx::{Executor as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::domain::{AttemptRecord, DeliveryId};
use crate::repository::Error;
use crate::repository::connections::persistent::Persistent;

/// A completed attempt.
#[derive(Clone, Debug)]
pub struct CompletedAttempt {
    /// The id of the delivery.
    pub id: DeliveryId,
    /// The lease of the attempt.
    pub lease: Uuid,
    /// The next state of the delivery.
    pub next_state: NextState,
    /// The record of the attempt.
    pub record: AttemptRecord,
}

/// The state of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextState {
    /// The attempt was acknowledged.
    Delivered,
    /// The next attempt is due at this time.
    RetryAt(DateTime<Utc>),
    /// The delivery has failed for good.
    Failed,
}

/// Stores attempts, and updates each delivery if its lease is still valid. Only the attempt is
/// stored if another worker has the delivery now. The next delivery of a session becomes due when
/// the earlier one ends. Returns the number of deliveries whose lease was valid.
///
/// # Errors
/// When the database fails.
pub async fn complete(
    connection: &mut PgConnection,
    completed: &[CompletedAttempt],
    now: DateTime<Utc>,
) -> Result<u64, Error> {
    if completed.is_empty() {
        return Ok(0);
    }
    let mut columns = AttemptColumns::default();
    for attempt in completed {
        columns.push(attempt, now);
    }
    let row = retry_on_deadlock!({
        let statement = sqlx::query_scalar!(
            r#"
        with item as (
            select * from unnest(
                $1::uuid[], $2::text[], $3::bigint[], $4::uuid[], $5::text[], $6::timestamptz[],
                $7::int[], $8::timestamptz[], $9::int[], $10::int[], $11::text[], $12::text[]
            ) as item (
                session_id, app_id, version, lease, state, due_at,
                attempt, started_at, duration_ms, status, error, answer
            )
        ), target as (
            select session_id, app_id, version from item
            union all
            select item.session_id, item.app_id, later.version
            from item
            cross join lateral (
                select version from delivery
                where delivery.session_id = item.session_id and delivery.app_id = item.app_id
                  and delivery.version > item.version and delivery.state in ('pending', 'leased')
                order by version
                limit 1
            ) as later
            where item.state <> 'pending'
        ), locked as (
            select 1
            from target
            join delivery on delivery.session_id = target.session_id
                         and delivery.app_id = target.app_id and delivery.version = target.version
            order by delivery.session_id, delivery.app_id, delivery.version
            for no key update of delivery
        ), updated as (
            update delivery
            set state = item.state, due_at = item.due_at, lease = null,
                finished_at = case when item.state <> 'pending' then $13::timestamptz end
            from item
            where delivery.session_id = item.session_id and delivery.app_id = item.app_id
              and delivery.version = item.version and delivery.lease = item.lease
              -- The count takes all locks before the first row is changed. The two rows of one
              -- item are changed in their order.
              and (cardinality($1) = 1 or (select count(*) from locked) > 0)
            returning delivery.session_id, delivery.app_id, delivery.version, delivery.state
        ), new_attempt as (
            insert into delivery_attempt (
                session_id, app_id, version, attempt, started_at, duration_ms, status, error, answer
            )
            select session_id, app_id, version, attempt, started_at, duration_ms, status, error,
                   answer
            from item
            on conflict do nothing
        ), next_due as (
            update delivery
            -- The new `due_at` always differs from the old one, so that a concurrent claim that
            -- found this row blocked notices the change.
            set due_at = least($13, due_at - interval '1 microsecond')
            from updated
            where updated.state <> 'pending' and delivery.state = 'pending'
              and delivery.session_id = updated.session_id
              and delivery.app_id = updated.app_id
              and delivery.version = (
                  select min(later.version) from delivery as later
                  where later.session_id = updated.session_id
                    and later.app_id = updated.app_id
                    and later.version > updated.version
                    and later.state in ('pending', 'leased')
              )
        )
        select count(*) as "updated!" from updated
        "#,
            &columns.session_ids,
            &columns.app_ids as &[&str],
            &columns.versions,
            &columns.leases,
            &columns.states as &[&str],
            &columns.due_at,
            &columns.attempts,
            &columns.started_at,
            &columns.durations,
            &columns.statuses as &[Option<i32>],
            &columns.errors as &[Option<&str>],
            &columns.answers as &[Option<&str>],
            now,
        );
        connection.fetch_one(Persistent(statement)).await
    })?;
    let updated: i64 = row.try_get(0)?;
    Ok(u64::try_from(updated).unwrap_or_default())
}

/// One array per column.
#[derive(Default)]
struct AttemptColumns<'a> {
    session_ids: Vec<Uuid>,
    app_ids: Vec<&'a str>,
    versions: Vec<i64>,
    leases: Vec<Uuid>,
    states: Vec<&'static str>,
    due_at: Vec<DateTime<Utc>>,
    attempts: Vec<i32>,
    started_at: Vec<DateTime<Utc>>,
    durations: Vec<i32>,
    statuses: Vec<Option<i32>>,
    errors: Vec<Option<&'a str>>,
    answers: Vec<Option<&'a str>>,
}

impl<'a> AttemptColumns<'a> {
    fn push(&mut self, attempt: &'a CompletedAttempt, now: DateTime<Utc>) {
        let (state, due_at) = match attempt.next_state {
            NextState::Delivered => ("delivered", now),
            NextState::RetryAt(at) => ("pending", at),
            NextState::Failed => ("failed", now),
        };
        self.session_ids.push(attempt.id.session_id.uuid());
        self.app_ids.push(attempt.id.app_id.as_str());
        self.versions.push(attempt.id.version.get());
        self.leases.push(attempt.lease);
        self.states.push(state);
        self.due_at.push(due_at);
        self.attempts.push(attempt.record.attempt);
        self.started_at.push(attempt.record.started_at);
        self.durations.push(attempt.record.duration_ms);
        self.statuses.push(attempt.record.status.map(i32::from));
        self.errors.push(attempt.record.error.as_deref());
        self.answers.push(attempt.record.response_excerpt.as_deref());
    }
}
