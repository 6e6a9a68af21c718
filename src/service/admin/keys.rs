//! API keys of apps: create, list, revoke. The database stores only hashes, so only the use case
//! that creates a key can show it.

use chrono::{DateTime, Utc};

use super::uncommitted::{AfterCommit, Uncommitted};
use super::{AdminContext, Error, propagation};
use crate::domain::{AppId, Buin};
use crate::repository::keys::{self, ApiKeyRecord};
use crate::wire::ApiKey;

/// A key without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeySummary {
    /// The id: the first 16 hexadecimal digits of the key's SHA-256.
    pub id: String,
    /// The enterprise of the app.
    pub buin: Buin,
    /// The app for which the key acts.
    pub app_id: AppId,
    /// A name for people.
    pub label: String,
    /// The time at which the key was created.
    pub created_at: DateTime<Utc>,
    /// The time of the last use, exact to a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The time at which the key was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A key that was just created.
pub struct CreatedApiKey {
    /// The secret key.
    pub key: ApiKey,
    /// Its id.
    pub id: String,
}

/// The result of revoking a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The id of the key.
    pub id: String,
    /// Whether the key was valid before.
    pub was_valid: bool,
}

/// Creates a key for an app. The key is valid after the commit.
///
/// # Errors
/// [`Error::AppNotFound`], or the database fails.
pub async fn create(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
    label: &str,
) -> Result<Uncommitted<CreatedApiKey>, Error> {
    let key = ApiKey::generate();
    let (hash, audit) = (key.hash(), admin.audit_context());
    let change = keys::begin_insert(&admin.pool, &hash, buin, app_id, label, audit).await?;
    let created = CreatedApiKey { id: keys::id(&hash), key };
    Ok(Uncommitted::new(created, change, AfterCommit::Nothing))
}

/// Makes sure that the database has an existing key. A revoked key stays revoked.
///
/// # Errors
/// [`Error::AppNotFound`], or the database fails.
pub async fn ensure(
    admin: &AdminContext,
    key: &ApiKey,
    buin: Buin,
    app_id: &AppId,
    label: &str,
) -> Result<(), Error> {
    let hash = key.hash();
    if keys::list(&admin.pool).await?.iter().any(|stored| stored.hash == hash) {
        return Ok(());
    }
    Ok(keys::insert(&admin.pool, &hash, buin, app_id, label, admin.audit_context()).await?)
}

/// Lists all keys, revoked ones too, the oldest first.
///
/// # Errors
/// The database fails.
pub async fn list(admin: &AdminContext) -> Result<Vec<ApiKeySummary>, Error> {
    let keys = keys::list(&admin.pool).await?;
    Ok(keys.into_iter().map(ApiKeySummary::from).collect())
}

/// Revokes a key permanently. The servers reject the key when this returns. `id_or_key` is the id
/// of the key, or the key itself.
///
/// # Errors
/// [`Error::KeyNotFound`], or the database fails.
pub async fn revoke(admin: &AdminContext, id_or_key: &str) -> Result<Revocation, Error> {
    let id = match ApiKey::parse(id_or_key) {
        Some(key) => keys::id(&key.hash()),
        None => id_or_key.to_owned(),
    };
    let keys = keys::list(&admin.pool).await?;
    let key = keys.iter().find(|key| keys::id(&key.hash) == id).ok_or(Error::KeyNotFound)?;
    let was_valid = keys::revoke(&admin.pool, key, admin.audit_context()).await?;
    propagation::announce(admin).await;
    Ok(Revocation { id, was_valid })
}

impl From<ApiKeyRecord> for ApiKeySummary {
    fn from(stored: ApiKeyRecord) -> Self {
        let ApiKeyRecord { hash, buin, app_id, label, created_at, last_used_at, revoked_at } =
            stored;
        let id = keys::id(&hash);
        Self { id, buin, app_id, label, created_at, last_used_at, revoked_at }
    }
}
