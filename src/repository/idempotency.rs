//! Requests that were done under a key of the caller's.
//!
//! The statement that does a request writes its key (see [`super::sessions`]); here is what happens
//! to it later, and the key of a request that had nothing to do.

use chrono::{DateTime, Utc};
use sqlx::{Executor as _, FromRow};
use uuid::Uuid;

use super::Error;
use super::error::corrupt;
use super::kept;
use super::sessions::version;
use crate::domain::{App, IdempotencyKey, SessionId, Version};
use crate::repository::PgPool;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The digest of what was asked.
    pub digest: [u8; 32],
    /// The session that it was about.
    pub session_id: SessionId,
    /// The version that was its answer.
    pub version: Version,
    /// Whether it is remembered no more.
    pub expired: bool,
}

#[derive(FromRow)]
struct Row {
    digest: Vec<u8>,
    session_id: Uuid,
    version: i64,
    expires_at: DateTime<Utc>,
}

/// Reads what became of a request of `app`.
///
/// # Errors
/// When the database fails, or holds what cannot be.
pub async fn find(
    pool: &PgPool,
    app: &App,
    name: &str,
    now: DateTime<Utc>,
) -> Result<Option<Kept>, Error> {
    let statement = sqlx::query_as!(
        Row,
        r#"
        select digest, session_id, version, expires_at
        from idempotency
        where buin = $1 and app_id = $2 and key = $3
        "#,
        app.buin.get(),
        app.app_id.as_str(),
        name,
    );
    let Some(row) = pool.fetch_optional(kept::Kept(statement)).await? else { return Ok(None) };
    let row = Row::from_row(&row)?;
    Ok(Some(Kept {
        digest: row
            .digest
            .try_into()
            .map_err(|_| corrupt("idempotency", "digest", name)("not 32 bytes"))?,
        session_id: SessionId::new(row.session_id),
        version: version("idempotency", row.version)?,
        expired: row.expires_at <= now,
    }))
}

/// Writes down a request that changed nothing: its answer was this version.
///
/// # Errors
/// [`Error::KeyTaken`] when a request of this name was done before, or when the database fails.
pub async fn insert(
    pool: &PgPool,
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
        now + IdempotencyKey::KEPT,
    )
    .execute(pool)
    .await
    .map_err(Error::of_write)?;
    Ok(())
}

/// Forgets one that is remembered no more, so that its name can be used again.
///
/// # Errors
/// When the database fails.
pub async fn forget(pool: &PgPool, app: &App, name: &str, now: DateTime<Utc>) -> Result<(), Error> {
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

/// Forgets up to `most` that are remembered no more, and tells how many those were.
///
/// # Errors
/// When the database fails.
pub async fn prune(pool: &PgPool, now: DateTime<Utc>, most: i64) -> Result<u64, Error> {
    let done = sqlx::query!(
        r#"
        delete from idempotency
        where (buin, app_id, key) in (
            select buin, app_id, key from idempotency
            where expires_at <= $1
            order by expires_at
            limit $2
        )
        "#,
        now,
        most,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
