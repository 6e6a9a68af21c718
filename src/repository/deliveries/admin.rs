//! Operations on deliveries for operators: list, replay, prune.

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::summary::DeliveryRow;
use crate::domain::{
    AppId, AttemptRecord, Buin, DeliveryFilter, DeliveryId, DeliveryState, DeliverySummary,
    SessionId,
};
use crate::repository::Error;
use crate::repository::Pool;
use crate::repository::audit::{self, AuditAction, AuditContext, AuditRecord};

/// A statement of `sqlx` with the conditions of a filter for the rows of `delivery`, between the two parts of
/// its text. The filter has the arguments $1 to $7, and the statement may have $8.
macro_rules! with_filter {
    (
        $query:ident!($($row:ident,)?), $before:literal, $after:literal, $filter:expr,
        $argument:expr $(,)?
    ) => {
        sqlx::$query!(
            $($row,)?
            $before + r#"($1::text is null or app_id = $1) and ($2::bigint is null or buin = $2)
              and ($3::text is null or state = $3) and ($4::uuid is null or session_id = $4)
              and ($5::bigint is null or version = $5)
              and ($6::timestamptz is null or created_at >= $6)
              and ($7::timestamptz is null or created_at < $7)"# + $after,
            $filter.app_id(),
            $filter.buin.map(Buin::get),
            $filter.state.map(DeliveryState::name),
            $filter.session_uuid(),
            $filter.version(),
            $filter.since,
            $filter.until,
            $argument,
        )
    };
}

/// Lists up to `limit` deliveries, the newest first.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn list(
    pool: &Pool,
    filter: &DeliveryFilter,
    limit: i64,
) -> Result<Vec<DeliverySummary>, Error> {
    let rows = with_filter!(
        query_as!(DeliveryRow,),
        r#"
        select listed.session_id, listed.buin, listed.app_id, listed.version, listed.state,
               listed.attempts, listed.due_at, listed.created_at, listed.finished_at,
               app.callback_url as "callback_url?",
               (
                   select error from delivery_attempt
                   where delivery_attempt.session_id = listed.session_id
                     and delivery_attempt.app_id = listed.app_id
                     and delivery_attempt.version = listed.version
                   order by attempt desc
                   limit 1
               ) as "last_error?"
        from (
            select session_id, buin, app_id, version, state, attempts, due_at, created_at,
                   finished_at
            from delivery
            where "#,
        r#"
            order by created_at desc, session_id, version desc, app_id
            limit $8
        ) as listed
        left join app on app.buin = listed.buin and app.app_id = listed.app_id
        order by listed.created_at desc, listed.session_id, listed.version desc, listed.app_id
        "#,
        filter,
        limit,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(DeliverySummary::try_from).collect()
}

/// One delivery.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn find(pool: &Pool, id: &DeliveryId) -> Result<Option<DeliverySummary>, Error> {
    let filter = DeliveryFilter { id: Some(id.clone()), ..DeliveryFilter::default() };
    Ok(list(pool, &filter, 1).await?.pop())
}

/// The attempts of a delivery, in order. An attempt is missing if its worker died.
///
/// # Errors
/// When the database fails.
pub async fn attempts(pool: &Pool, id: &DeliveryId) -> Result<Vec<AttemptRecord>, Error> {
    let rows = sqlx::query!(
        r#"
        select attempt, started_at, duration_ms, status, error, answer
        from delivery_attempt
        where session_id = $1 and app_id = $2 and version = $3
        order by attempt
        "#,
        id.session_id.uuid(),
        id.app_id.as_str(),
        id.version.get(),
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| AttemptRecord {
            attempt: row.attempt,
            started_at: row.started_at,
            duration_ms: row.duration_ms,
            status: row.status.and_then(|status| status.try_into().ok()),
            error: row.error,
            response_excerpt: row.answer,
        })
        .collect())
}

/// Makes deliveries due now and restarts their schedule: those that have ended and those that wait.
/// Deliveries in flight are not changed. Returns the number of deliveries. An audit record is
/// written unless the number is 0.
///
/// # Errors
/// When the database fails.
pub async fn replay(
    pool: &Pool,
    filter: &DeliveryFilter,
    context: AuditContext<'_>,
) -> Result<u64, Error> {
    Ok(retry_on_deadlock!(replay_once(pool, filter, context).await)?)
}

async fn replay_once(
    pool: &Pool,
    filter: &DeliveryFilter,
    context: AuditContext<'_>,
) -> Result<u64, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let result = with_filter!(
        query!(),
        r#"
        with selected as (
            select session_id, app_id, version from delivery
            where "#,
        r#"
              and state <> 'leased'
            order by session_id, app_id, version
            for no key update
        )
        update delivery
        set state = 'pending', due_at = $8, tries = 0, first_tried_at = null, finished_at = null
        from selected
        where delivery.session_id = selected.session_id and delivery.app_id = selected.app_id
          and delivery.version = selected.version and delivery.state <> 'leased'
        "#,
        filter,
        context.at,
    )
    .execute(&mut *transaction)
    .await?;
    let count = result.rows_affected();
    if count > 0 {
        audit::write(&mut transaction, context, filter.audit_record(count)).await?;
        transaction.commit().await?;
    }
    Ok(count)
}

/// Deletes up to `limit` deliveries that ended in `state` before `before`, with their attempts.
/// Returns the number.
///
/// # Errors
/// When the database fails.
pub async fn prune(
    pool: &Pool,
    state: DeliveryState,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<u64, Error> {
    let deleted = sqlx::query_scalar!(
        r#"
        with expired as (
            select session_id, app_id, version
            from delivery
            where state = $1 and finished_at < $2 and state in ('delivered', 'failed')
            order by finished_at
            limit $3
            -- Rows that a replay or another server has locked are skipped.
            for update skip locked
        ), deleted as (
            delete from delivery
            using expired
            where delivery.session_id = expired.session_id and delivery.app_id = expired.app_id
              and delivery.version = expired.version and delivery.state = $1
            returning delivery.session_id, delivery.app_id, delivery.version
        ), deleted_attempt as (
            delete from delivery_attempt
            using deleted
            where delivery_attempt.session_id = deleted.session_id
              and delivery_attempt.app_id = deleted.app_id
              and delivery_attempt.version = deleted.version
        )
        select count(*) as "deleted!" from deleted
        "#,
        state.name(),
        before,
        limit,
    )
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(deleted).unwrap_or_default())
}

impl DeliveryFilter {
    /// The audit record of a replay.
    fn audit_record(&self, count: u64) -> AuditRecord<'_> {
        let app_id = self.id.as_ref().map(|id| &id.app_id).or(self.app_id.as_ref());
        let details = json!({
            "delivery": self.id.as_ref().map(ToString::to_string),
            "session": self.session_id.map(|id| id.to_string()),
            "state": self.state.map(DeliveryState::name),
            "since": self.since,
            "until": self.until,
            "replayed": count,
        });
        AuditRecord { action: AuditAction::DeliveryReplay, buin: self.buin, app_id, details }
    }

    fn app_id(&self) -> Option<&str> {
        self.id.as_ref().map(|id| &id.app_id).or(self.app_id.as_ref()).map(AppId::as_str)
    }

    fn session_uuid(&self) -> Option<Uuid> {
        self.id.as_ref().map(|id| id.session_id).or(self.session_id).map(SessionId::uuid)
    }

    fn version(&self) -> Option<i64> {
        self.id.as_ref().map(|id| id.version.get())
    }
}
