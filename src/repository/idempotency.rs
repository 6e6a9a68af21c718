//! Requests with an idempotency key, and their outcome.
//!
//! The statement that performs a request also writes its key (see [`super::sessions`]). This module
//! handles later uses of a key, and the key of a request that changed nothing.

use chrono::{DateTime, Utc};
use sqlx::{Executor as _, FromRow};
use uuid::Uuid;

use super::Error;
use super::connections::persistent;
use super::error::corrupt;
use super::sessions::version;
use crate::domain::{App, IdempotencyKey, SessionId, Version};
use crate::repository::Pool;

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRequest {
    /// The digest of the request.
    pub digest: [u8; 32],
    /// The session of the request.
    pub session_id: SessionId,
    /// The version in the response.
    pub version: Version,
    /// Whether the key has expired.
    pub expired: bool,
}

#[derive(FromRow)]
struct IdempotencyRow {
    digest: Vec<u8>,
    session_id: Uuid,
    version: i64,
    expires_at: DateTime<Utc>,
}

/// Reads the outcome of a request of `app`.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn find(
    pool: &Pool,
    app: &App,
    name: &str,
    now: DateTime<Utc>,
) -> Result<Option<StoredRequest>, Error> {
    let statement = sqlx::query_as!(
        IdempotencyRow,
        r#"
        select digest, session_id, version, expires_at
        from idempotency
        where buin = $1 and app_id = $2 and key = $3
        "#,
        app.buin.get(),
        app.app_id.as_str(),
        name,
    );
    let Some(row) = pool.fetch_optional(persistent::Persistent(statement)).await? else {
        return Ok(None);
    };
    let row = IdempotencyRow::from_row(&row)?;
    Ok(Some(StoredRequest {
        digest: row
            .digest
            .try_into()
            .map_err(|_| corrupt("idempotency", "digest", name)("not 32 bytes"))?,
        session_id: SessionId::new(row.session_id),
        version: version("idempotency", row.version)?,
        expired: row.expires_at <= now,
    }))
}

/// Stores the key of a request that changed nothing. `version` is the version in its response.
///
/// # Errors
/// [`Error::DuplicateIdempotencyKey`] when the app used this name before, or when the database
/// fails.
pub async fn insert(
    pool: &Pool,
    app: &App,
    key: &IdempotencyKey,
    session_id: SessionId,
    version: Version,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into idempotency (buin, app_id, key, digest, session_id, version, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7)
        "#,
        app.buin.get(),
        app.app_id.as_str(),
        key.name(),
        key.digest(),
        session_id.uuid(),
        version.get(),
        now + IdempotencyKey::RETENTION,
    )
    .execute(pool)
    .await
    .map_err(Error::from_write)?;
    Ok(())
}

/// Waits until every earlier commit is on the synchronous standbys, if the database has any. The
/// stored outcome of a request is visible before that if its statement was canceled while it waited
/// for a standby.
///
/// # Errors
/// When the database fails, or the standbys do not answer in time.
pub async fn wait_for_standbys(pool: &Pool) -> Result<(), Error> {
    // Standbys confirm commits in the order of the log, so the commit of this message confirms all earlier
    // ones.
    sqlx::query(
        "select case when current_setting('synchronous_standby_names') <> ''
                     then pg_logical_emit_message(true, 'muster', '')::text end",
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes a key if it has expired, so that the app can use the name again.
///
/// # Errors
/// When the database fails.
pub async fn delete(pool: &Pool, app: &App, name: &str, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        r#"
        delete from idempotency
        where buin = $1 and app_id = $2 and key = $3 and expires_at <= $4
        "#,
        app.buin.get(),
        app.app_id.as_str(),
        name,
        now,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes up to `limit` expired keys, and returns the number.
///
/// # Errors
/// When the database fails.
pub async fn prune(pool: &Pool, now: DateTime<Utc>, limit: i64) -> Result<u64, Error> {
    let done = sqlx::query!(
        r#"
        with expired as (
            -- Rows that another server is deleting are skipped.
            select buin, app_id, key from idempotency
            where expires_at <= $1
            order by expires_at
            limit $2
            for update skip locked
        )
        delete from idempotency using expired
        where idempotency.buin = expired.buin and idempotency.app_id = expired.app_id
          and idempotency.key = expired.key
        "#,
        now,
        limit,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
