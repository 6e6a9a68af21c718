//! API keys: their hashes, never the keys.

use chrono::{DateTime, Utc};

use super::Error;
use super::error::corrupt;
use crate::domain::{AppId, Buin};
use crate::repository::PgPool;
use crate::wire::ApiKeyHash;

/// What is stored of an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// SHA-256 of the key.
    pub hash: ApiKeyHash,
    /// The enterprise of the app that it acts for.
    pub buin: Buin,
    /// The app that it acts for.
    pub app_id: AppId,
    /// What people call it.
    pub label: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last used, to within a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Since when it is refused.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Every key, revoked ones too, oldest first.
///
/// # Errors
/// When the database fails, or holds what cannot be.
pub async fn list(pool: &PgPool) -> Result<Vec<StoredKey>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select hash, buin, app_id, label, created_at, last_used_at, revoked_at
        from api_key
        order by created_at, hash
        "#
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(StoredKey::try_from).collect()
}

/// Writes a new key.
///
/// # Errors
/// [`Error::AppUnknown`], or when the database fails.
pub async fn insert(
    pool: &PgPool,
    hash: &ApiKeyHash,
    buin: Buin,
    app_id: &AppId,
    label: &str,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into api_key (hash, buin, app_id, label, created_at) values ($1, $2, $3, $4, $5)",
        hash.as_slice(),
        buin.get(),
        app_id.as_str(),
        label,
        at,
    )
    .execute(pool)
    .await
    .map_err(|error| match error.as_database_error().and_then(|error| error.constraint()) {
        Some("api_key_app_fkey") => Error::AppUnknown { buin, app_id: app_id.clone() },
        _ => error.into(),
    })?;
    Ok(())
}

/// Revokes a key, for ever. Says whether it was valid until now.
///
/// # Errors
/// When the database fails.
pub async fn revoke(pool: &PgPool, hash: &ApiKeyHash, at: DateTime<Utc>) -> Result<bool, Error> {
    let done = sqlx::query!(
        "update api_key set revoked_at = $2 where hash = $1 and revoked_at is null",
        hash.as_slice(),
        at,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Notes that keys were used.
///
/// # Errors
/// When the database fails.
pub async fn note_use(
    pool: &PgPool,
    hashes: &[ApiKeyHash],
    at: DateTime<Utc>,
) -> Result<(), Error> {
    let hashes: Vec<&[u8]> = hashes.iter().map(ApiKeyHash::as_slice).collect();
    sqlx::query!(
        "update api_key set last_used_at = greatest(last_used_at, $2) where hash = any($1)",
        &hashes as &[&[u8]],
        at,
    )
    .execute(pool)
    .await?;
    Ok(())
}

struct Row {
    hash: Vec<u8>,
    buin: i64,
    app_id: String,
    label: String,
    created_at: DateTime<Utc>,
    last_used_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for StoredKey {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            hash: row.hash.as_slice().try_into().map_err(corrupt(
                "api_key",
                "hash",
                format_args!("{} bytes", row.hash.len()),
            ))?,
            buin: Buin::new(row.buin).map_err(corrupt("api_key", "buin", row.buin))?,
            app_id: row.app_id.parse().map_err(corrupt("api_key", "app_id", &row.app_id))?,
            label: row.label,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
        })
    }
}
