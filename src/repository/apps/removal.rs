//! The end of apps and of their previous keys.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::audit_records;
use super::stored::StoredApp;
use crate::domain::{App, AppId, Buin};
use crate::repository::audit::{self, AuditContext};
use crate::repository::consumers;
use crate::repository::{Error, Pool, PoolTransaction};

/// Whether an event of a session names the app. Reads all events of the enterprise if none does, so
/// the usual time limit does not apply.
///
/// # Errors
/// When the database fails.
pub async fn is_in_history(pool: &Pool, buin: Buin, app_id: &AppId) -> Result<bool, Error> {
    let mut transaction = pool.begin().await?;
    let is_named = has_events(&mut transaction, buin, app_id).await?;
    transaction.commit().await?;
    Ok(is_named)
}

/// Deletes an app that no history names, with its keys, its callbacks and its consumers.
///
/// # Errors
/// [`Error::AppUnknown`], [`Error::AppInHistory`], or when the database fails.
pub async fn delete(pool: &Pool, app: &App, context: AuditContext<'_>) -> Result<(), Error> {
    let (buin, app_id) = (app.buin, &app.app_id);
    let mut transaction = pool.begin().await?;
    let found = sqlx::query_scalar!(
        "select buin from app where buin = $1 and app_id = $2 for update",
        buin.get(),
        app_id.as_str(),
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if found.is_none() {
        return Err(Error::AppUnknown { buin, app_id: app_id.clone() });
    }
    if has_events(&mut transaction, buin, app_id).await? {
        return Err(Error::AppInHistory { buin, app_id: app_id.clone() });
    }
    sqlx::query!(
        r#"
        with locked as (
            select session_id, app_id, version from delivery
            where buin = $1 and app_id = $2
            order by session_id, app_id, version
            for update
        ), deleted_attempts as (
            delete from delivery_attempt using locked
            where delivery_attempt.session_id = locked.session_id
              and delivery_attempt.app_id = locked.app_id
              and delivery_attempt.version = locked.version
        )
        delete from delivery using locked
        where delivery.session_id = locked.session_id
          and delivery.app_id = locked.app_id
          and delivery.version = locked.version
        "#,
        buin.get(),
        app_id.as_str(),
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "delete from api_key where buin = $1 and app_id = $2",
        buin.get(),
        app_id.as_str(),
    )
    .execute(&mut *transaction)
    .await?;
    consumers::remove_of_app(&mut transaction, buin, app_id).await?;
    sqlx::query!("delete from app where buin = $1 and app_id = $2", buin.get(), app_id.as_str())
        .execute(&mut *transaction)
        .await?;
    audit::write(&mut transaction, context, audit_records::deleted_record(app)).await?;
    Ok(transaction.commit().await?)
}

/// Revokes the keys of an app that its transaction archives, gives up its waiting callbacks, and removes
/// its consumers.
///
/// # Errors
/// When the database fails.
pub async fn archive_rest(
    transaction: &mut PoolTransaction,
    stored: &StoredApp,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    let (buin, app_id) = (stored.app.buin.get(), stored.app.app_id.as_str());
    sqlx::query!(
        r#"
        with locked as (
            select hash from api_key
            where buin = $1 and app_id = $2 and revoked_at is null
            order by hash
            for no key update
        )
        update api_key set revoked_at = $3 from locked where api_key.hash = locked.hash
        "#,
        buin,
        app_id,
        at,
    )
    .execute(&mut **transaction)
    .await?;
    sqlx::query!(
        r#"
        with locked as (
            select session_id, app_id, version from delivery
            where buin = $1 and app_id = $2 and state in ('pending', 'leased')
            order by session_id, app_id, version
            for no key update
        )
        update delivery set state = 'failed', lease = null, finished_at = $3
        from locked
        where delivery.session_id = locked.session_id
          and delivery.app_id = locked.app_id
          and delivery.version = locked.version
        "#,
        buin,
        app_id,
        at,
    )
    .execute(&mut **transaction)
    .await?;
    consumers::remove_of_app(transaction, stored.app.buin, &stored.app.app_id).await
}

/// Deletes the previous AES keys that are refused now.
///
/// # Errors
/// When the database fails.
pub async fn forget_previous_keys(pool: &Pool, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        r#"
        with locked as (
            select buin, app_id from app
            where previous_aes_key_until <= $1
            order by buin, app_id
            for no key update
        )
        update app set previous_aes_key = null, previous_aes_key_until = null
        from locked
        where app.buin = locked.buin and app.app_id = locked.app_id
        "#,
        now,
    )
    .execute(pool)
    .await?;
    Ok(())
}

async fn has_events(
    connection: &mut PgConnection,
    buin: Buin,
    app_id: &AppId,
) -> Result<bool, Error> {
    sqlx::query!("set local statement_timeout = 0").execute(&mut *connection).await?;
    let is_named = sqlx::query_scalar!(
        r#"
        select exists (
            select from session_event where buin = $1 and app_id = $2
        ) as "is_named!"
        "#,
        buin.get(),
        app_id.as_str(),
    )
    .fetch_one(connection)
    .await?;
    Ok(is_named)
}
