//! API keys. Only their hashes are stored.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::Error;
use super::audit::{self, AuditAction, AuditContext, AuditRecord};
use super::error::corrupt;
use crate::domain::{AppId, Buin};
use crate::repository::{Pool, PoolTransaction};
use crate::wire::ApiKeyHash;

/// A stored API key: its hash and its properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyRecord {
    /// SHA-256 of the key.
    pub hash: ApiKeyHash,
    /// The enterprise of the key's app.
    pub buin: Buin,
    /// The app that the key belongs to.
    pub app_id: AppId,
    /// The label, given by an operator.
    pub label: String,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
    /// The time of the last use, to within a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The time of revocation. A revoked key is refused.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Every key, also revoked ones, oldest first.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn list(pool: &Pool) -> Result<Vec<ApiKeyRecord>, Error> {
    let rows = sqlx::query_as!(
        ApiKeyRow,
        r#"
        select hash, buin, app_id, label, created_at, last_used_at, revoked_at
        from api_key
        order by created_at, hash
        "#
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(ApiKeyRecord::try_from).collect()
}

/// Stores a new key and its audit record.
///
/// # Errors
/// [`Error::AppUnknown`], or when the database fails.
pub async fn insert(
    pool: &Pool,
    hash: &ApiKeyHash,
    buin: Buin,
    app_id: &AppId,
    label: &str,
    context: AuditContext<'_>,
) -> Result<(), Error> {
    Ok(begin_insert(pool, hash, buin, app_id, label, context).await?.commit().await?)
}

/// Like [`insert`], but leaves the commit to the caller.
///
/// # Errors
/// [`Error::AppUnknown`], or when the database fails.
pub async fn begin_insert(
    pool: &Pool,
    hash: &ApiKeyHash,
    buin: Buin,
    app_id: &AppId,
    label: &str,
    context: AuditContext<'_>,
) -> Result<PoolTransaction, Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query!(
        "insert into api_key (hash, buin, app_id, label, created_at) values ($1, $2, $3, $4, $5)",
        hash.as_slice(),
        buin.get(),
        app_id.as_str(),
        label,
        context.at,
    )
    .execute(&mut *transaction)
    .await
    .map_err(|error| match error.as_database_error().and_then(|error| error.constraint()) {
        Some("api_key_app_fkey") => Error::AppUnknown { buin, app_id: app_id.clone() },
        _ => error.into(),
    })?;
    let details = json!({ "key": id(hash), "label": label });
    let record = AuditRecord::for_app(AuditAction::KeyCreate, buin, app_id, details);
    audit::write(&mut transaction, context, record).await?;
    Ok(transaction)
}

/// Revokes a key for ever and writes the audit record. Returns whether the key was valid until now.
/// Nothing is written if it was not.
///
/// # Errors
/// When the database fails.
pub async fn revoke(
    pool: &Pool,
    key: &ApiKeyRecord,
    context: AuditContext<'_>,
) -> Result<bool, Error> {
    let mut transaction = pool.begin().await?;
    let result = sqlx::query!(
        "update api_key set revoked_at = $2 where hash = $1 and revoked_at is null",
        key.hash.as_slice(),
        context.at,
    )
    .execute(&mut *transaction)
    .await?;
    if result.rows_affected() == 0 {
        return Ok(false);
    }
    let details = json!({ "key": id(&key.hash), "label": key.label });
    let record = AuditRecord::for_app(AuditAction::KeyRevoke, key.buin, &key.app_id, details);
    audit::write(&mut transaction, context, record).await?;
    transaction.commit().await?;
    Ok(true)
}

/// The id by which operators name a key: the first 16 hexadecimal digits of its hash.
#[must_use]
pub fn id(hash: &ApiKeyHash) -> String {
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Stores the times of the last use of keys.
///
/// # Errors
/// When the database fails.
pub async fn update_last_used(
    pool: &Pool,
    hashes: &[ApiKeyHash],
    at: DateTime<Utc>,
) -> Result<(), Error> {
    let hashes: Vec<&[u8]> = hashes.iter().map(ApiKeyHash::as_slice).collect();
    sqlx::query!(
        r#"
        with locked as (
            -- All servers lock rows in this order. An update alone locks them in the order of its
            -- plan.
            select hash from api_key where hash = any($1) order by hash for no key update
        )
        update api_key set last_used_at = greatest(last_used_at, $2)
        from locked
        where api_key.hash = locked.hash
        "#,
        &hashes as &[&[u8]],
        at,
    )
    .execute(pool)
    .await?;
    Ok(())
}

struct ApiKeyRow {
    hash: Vec<u8>,
    buin: i64,
    app_id: String,
    label: String,
    created_at: DateTime<Utc>,
    last_used_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

impl TryFrom<ApiKeyRow> for ApiKeyRecord {
    type Error = Error;

    fn try_from(row: ApiKeyRow) -> Result<Self, Error> {
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
