//! API keys of apps: create, list, revoke. The database stores only hashes, so only the use case
//! that creates a key can show it.

use chrono::{DateTime, Utc};
use ipnet::IpNet;

use super::uncommitted::{AfterCommit, Uncommitted};
use super::{AdminContext, Error, propagation};
use crate::domain::{AppId, Buin, Permission};
use crate::repository::apps;
use crate::repository::keys::{self, ApiKeyRecord, KeyRestrictions, NewApiKey};
use crate::service::key_expiry;
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
    /// The limits of the key.
    pub limits: KeyLimits,
    /// The time at which the key was created.
    pub created_at: DateTime<Utc>,
    /// The time of the last use, exact to a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The client of the last use: an IPv4 address, or a /64 of IPv6.
    pub last_used_from: Option<IpNet>,
    /// The time at which the key was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// The limits of a key, within those of its app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// The key is refused from this time on.
    pub expires_at: Option<DateTime<Utc>>,
    /// The permissions of the key, as far as its app has them; `None`: all of them.
    pub permissions: Option<Vec<Permission>>,
    /// The key is refused from other networks; empty: from none.
    pub networks: Vec<IpNet>,
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
/// [`Error::AppNotFound`], [`Error::AppArchived`], [`Error::PermissionOfNoApp`] or
/// [`Error::ExpiryInThePast`], or the database fails.
pub async fn create(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
    label: &str,
    limits: KeyLimits,
) -> Result<Uncommitted<CreatedApiKey>, Error> {
    let audit = admin.audit_context();
    let stored = apps::find(&admin.pool, &admin.keyring, buin, app_id).await?;
    Error::if_archived(stored.archived, &stored.app)?;
    let mut own = limits.permissions.iter().flatten();
    if let Some(lacking) = own.find(|permission| !stored.app.permissions.contains(**permission)) {
        return Err(Error::PermissionOfNoApp(*lacking));
    }
    if let Some(expires_at) = limits.expires_at.filter(|expires_at| *expires_at <= audit.at) {
        return Err(Error::ExpiryInThePast(expires_at));
    }
    let KeyLimits { expires_at, permissions, networks } = limits;
    let permissions = permissions.map(|list| list.into_iter().collect());
    let restrictions = &KeyRestrictions { expires_at, permissions, networks };
    let key = ApiKey::generate();
    let hash = key.hash();
    let new = NewApiKey { hash: &hash, buin, app_id, label, restrictions };
    let change = keys::begin_insert(&admin.pool, new, audit).await?;
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

/// The valid keys of enabled apps that expire within two weeks.
///
/// # Errors
/// A secret cannot be opened, or the database fails.
pub async fn expiring(admin: &AdminContext) -> Result<Vec<ApiKeySummary>, Error> {
    let now = admin.audit_context().at;
    let apps = apps::list(&admin.pool, &admin.keyring).await?;
    let is_enabled = |key: &ApiKeyRecord| {
        let mut apps = apps.iter().map(|stored| &stored.app);
        apps.any(|app| app.buin == key.buin && app.app_id == key.app_id && !app.disabled)
    };
    let keys = keys::list(&admin.pool).await?.into_iter().filter(|key| {
        let expires_at = key.restrictions.expires_at.filter(|_| key.revoked_at.is_none());
        expires_at.is_some_and(|at| key_expiry::is_soon(at, now)) && is_enabled(key)
    });
    Ok(keys.map(ApiKeySummary::from).collect())
}

/// Revokes a key permanently. The servers refuse the key when this returns. `id_or_key` is the id
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
        let KeyRestrictions { expires_at, permissions, networks } = stored.restrictions;
        let permissions = permissions.map(|permissions| permissions.iter().collect());
        Self {
            id: keys::id(&stored.hash),
            buin: stored.buin,
            app_id: stored.app_id,
            label: stored.label,
            limits: KeyLimits { expires_at, permissions, networks },
            created_at: stored.created_at,
            last_used_at: stored.last_used_at,
            last_used_from: stored.last_used_from,
            revoked_at: stored.revoked_at,
        }
    }
}
