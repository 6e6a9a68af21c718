//! API keys. Only their hashes are stored.

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::Error;
use super::audit::{self, AuditAction, AuditContext, AuditRecord};
use super::error::corrupt;
use crate::domain::{AppId, Buin, Permission, Permissions, UnknownPermission};
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
    /// The limits of the key.
    pub restrictions: KeyRestrictions,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
    /// The time of the last use, to within a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The client of the last use: an IPv4 address, or a /64 of IPv6.
    pub last_used_from: Option<IpNet>,
    /// The time of revocation. A revoked key is refused.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// The limits of an API key, within those of its app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRestrictions {
    /// The key is refused from this time on.
    pub expires_at: Option<DateTime<Utc>>,
    /// The key has those of these permissions that its app has; `None`: all of them.
    pub permissions: Option<Permissions>,
    /// The key is refused from other networks; empty: from none.
    pub networks: Vec<IpNet>,
}

/// A key to store.
#[derive(Clone, Copy, Debug)]
pub struct NewApiKey<'a> {
    /// SHA-256 of the key.
    pub hash: &'a ApiKeyHash,
    /// The enterprise of the app.
    pub buin: Buin,
    /// The app.
    pub app_id: &'a AppId,
    /// A name for people.
    pub label: &'a str,
    /// The limits of the key.
    pub restrictions: &'a KeyRestrictions,
}

/// The last use of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiKeyUse {
    /// SHA-256 of the key.
    pub hash: ApiKeyHash,
    /// The client.
    pub from: IpNet,
}

/// Every key, also revoked ones, oldest first.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn list(pool: &Pool) -> Result<Vec<ApiKeyRecord>, Error> {
    let rows = sqlx::query_as!(
        ApiKeyRow,
        r#"
        select hash, buin, app_id, label, created_at, last_used_at, revoked_at, expires_at,
               permissions, networks::text[], last_used_from::text
        from api_key
        order by created_at, hash
        "#
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(ApiKeyRecord::try_from).collect()
}

/// Stores a new key without restrictions, and its audit record.
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
    let restrictions = &KeyRestrictions::default();
    let new = NewApiKey { hash, buin, app_id, label, restrictions };
    Ok(begin_insert(pool, new, context).await?.commit().await?)
}

/// Stores a new key and its audit record, and leaves the commit to the caller.
///
/// # Errors
/// [`Error::AppUnknown`], or when the database fails.
pub async fn begin_insert(
    pool: &Pool,
    new: NewApiKey<'_>,
    context: AuditContext<'_>,
) -> Result<PoolTransaction, Error> {
    let NewApiKey { hash, buin, app_id, label, restrictions } = new;
    let KeyRestrictions { expires_at, permissions, networks } = restrictions;
    let permissions: Option<Vec<&str>> =
        permissions.map(|permissions| permissions.iter().map(Permission::name).collect());
    let networks: Option<Vec<String>> = (!networks.is_empty())
        .then(|| networks.iter().map(|network| network.trunc().to_string()).collect());
    let mut transaction = pool.begin().await?;
    sqlx::query!(
        r#"
        insert into api_key (
            hash, buin, app_id, label, created_at, expires_at, permissions, networks
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8::text[]::cidr[])
        "#,
        hash.as_slice(),
        buin.get(),
        app_id.as_str(),
        label,
        context.at,
        *expires_at,
        permissions.as_deref() as Option<&[&str]>,
        networks.as_deref(),
    )
    .execute(&mut *transaction)
    .await
    .map_err(|error| match error.as_database_error().and_then(|error| error.constraint()) {
        Some("api_key_app_fkey") => Error::AppUnknown { buin, app_id: app_id.clone() },
        _ => error.into(),
    })?;
    let mut details = json!({ "key": id(hash), "label": label });
    let mut note = |field: &str, value: Value| {
        if !value.is_null() {
            details[field] = value;
        }
    };
    note("expiresAt", json!(expires_at));
    note("permissions", json!(permissions));
    note("networks", json!(networks));
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

/// Stores the last use of keys.
///
/// # Errors
/// When the database fails.
pub async fn update_last_used(
    pool: &Pool,
    uses: &[ApiKeyUse],
    at: DateTime<Utc>,
) -> Result<(), Error> {
    let hashes: Vec<&[u8]> = uses.iter().map(|used| used.hash.as_slice()).collect();
    let clients: Vec<String> = uses.iter().map(|used| used.from.trunc().to_string()).collect();
    sqlx::query!(
        r#"
        with item as (
            select * from unnest($1::bytea[], $2::text[]) as item (hash, client)
        ), locked as (
            -- All servers lock rows in this order. An update alone locks them in the order of its
            -- plan.
            select hash from api_key where hash = any($1) order by hash for no key update
        )
        update api_key
        set last_used_at = greatest(last_used_at, $3), last_used_from = item.client::cidr
        from locked join item using (hash)
        where api_key.hash = locked.hash
        "#,
        &hashes as &[&[u8]],
        &clients,
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
    expires_at: Option<DateTime<Utc>>,
    permissions: Option<Vec<String>>,
    networks: Option<Vec<String>>,
    last_used_from: Option<String>,
}

impl TryFrom<ApiKeyRow> for ApiKeyRecord {
    type Error = Error;

    fn try_from(row: ApiKeyRow) -> Result<Self, Error> {
        let permissions = row.permissions.map(|names| {
            let permissions: Result<Permissions, UnknownPermission> =
                names.iter().map(|name| name.parse::<Permission>()).collect();
            permissions.map_err(corrupt("api_key", "permissions", names.join(",")))
        });
        let network = |column| {
            move |text: &String| {
                text.parse::<IpNet>().map_err(corrupt("api_key", column, text.clone()))
            }
        };
        let networks = row.networks.unwrap_or_default();
        Ok(Self {
            hash: row.hash.as_slice().try_into().map_err(corrupt(
                "api_key",
                "hash",
                format_args!("{} bytes", row.hash.len()),
            ))?,
            buin: Buin::new(row.buin).map_err(corrupt("api_key", "buin", row.buin))?,
            app_id: row.app_id.parse().map_err(corrupt("api_key", "app_id", &row.app_id))?,
            label: row.label,
            restrictions: KeyRestrictions {
                expires_at: row.expires_at,
                permissions: permissions.transpose()?,
                networks: networks.iter().map(network("networks")).collect::<Result<_, _>>()?,
            },
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            last_used_from: row
                .last_used_from
                .as_ref()
                .map(network("last_used_from"))
                .transpose()?,
            revoked_at: row.revoked_at,
        })
    }
}
