//! The record of administrative acts: actor, act, time and machine.
//!
//! The function that performs an act also writes its record, in the same transaction, so neither
//! exists without the other. Details name secrets, but never contain them.

mod action;
mod chain;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

pub use self::action::AuditAction;
pub use self::chain::verify;

use super::{Error, Pool};
use crate::domain::{Actor, AppId, AuditEntry, AuditFilter, Buin};

/// The actor and the time of an act.
#[derive(Clone, Copy, Debug)]
pub struct AuditContext<'a> {
    /// The actor.
    pub actor: &'a Actor,
    /// The time.
    pub at: DateTime<Utc>,
}

/// A record to write.
pub(crate) struct AuditRecord<'a> {
    pub(crate) action: AuditAction,
    pub(crate) buin: Option<Buin>,
    pub(crate) app_id: Option<&'a AppId>,
    pub(crate) details: Value,
}

impl<'a> AuditRecord<'a> {
    pub(crate) fn for_app(
        action: AuditAction,
        buin: Buin,
        app_id: &'a AppId,
        details: Value,
    ) -> Self {
        Self { action, buin: Some(buin), app_id: Some(app_id), details }
    }
}

/// Writes a record, in the transaction of its act.
pub(crate) async fn write(
    connection: &mut PgConnection,
    context: AuditContext<'_>,
    record: AuditRecord<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into audit (at, action, actor, sudo_user, host, pid, buin, app_id, details)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        "#,
        context.at,
        record.action.name(),
        context.actor.user,
        context.actor.sudo_user,
        context.actor.host,
        i64::from(context.actor.pid),
        record.buin.map(Buin::get),
        record.app_id.map(AppId::as_str),
        record.details,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Lists up to `limit` records, the newest first.
///
/// # Errors
/// When the database fails.
pub async fn list(pool: &Pool, filter: &AuditFilter, limit: i64) -> Result<Vec<AuditEntry>, Error> {
    let entries = sqlx::query_as!(
        AuditEntry,
        r#"
        select at, action, actor, sudo_user, host, pid, buin, app_id, details
        from audit
        where ($1::timestamptz is null or at >= $1)
          and ($2::timestamptz is null or at < $2)
          and ($3::text is null or action = $3 or starts_with(action, $3 || '.'))
          and ($4::text is null or app_id = $4)
          and ($5::bigint is null or buin = $5)
        order by at desc, audit_id desc
        limit $6
        "#,
        filter.since,
        filter.until,
        filter.action,
        filter.app_id.as_ref().map(AppId::as_str),
        filter.buin.map(Buin::get),
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(entries)
}

/// Deletes up to `limit` records of acts before `before`, the oldest first, and writes a record of it.
/// Returns the number. A record stays as long as an older one stays, so the rest remains one chain.
///
/// # Errors
/// When the database fails.
pub async fn prune(
    pool: &Pool,
    before: DateTime<Utc>,
    limit: i64,
    context: AuditContext<'_>,
) -> Result<u64, Error> {
    let mut transaction = pool.begin().await?;
    // Another server must not delete at the same time: both records would name the same last hash.
    chain::lock(&mut transaction).await?;
    let deleted = sqlx::query!(
        r#"
        with oldest as (
            select audit_id, at, hash from audit order by audit_id limit $2
        ), expired as (
            select audit_id, hash from oldest
            where audit_id < coalesce(
                (select min(kept.audit_id) from oldest as kept where kept.at >= $1), 9223372036854775807
            )
        ), deleted as (
            delete from audit using expired where audit.audit_id = expired.audit_id
        )
        select count(*) as "records!", (array_agg(hash order by audit_id desc))[1] as last_hash
        from expired
        "#,
        before,
        limit,
    )
    .fetch_one(&mut *transaction)
    .await?;
    let (records, Some(last_hash)) = (deleted.records, deleted.last_hash) else { return Ok(0) };
    let details = json!({
        "records": records,
        "before": before,
        (chain::LAST_HASH): chain::hex(&last_hash),
    });
    let record = AuditRecord { action: AuditAction::AuditPrune, buin: None, app_id: None, details };
    write(&mut transaction, context, record).await?;
    transaction.commit().await?;
    Ok(records.unsigned_abs())
}
