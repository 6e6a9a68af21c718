//! Sealing of the secrets in the database with the first master key, and rotation to another one.
//!
//! Each act is one transaction. Single secrets are sealed and opened by the modules that store them
//! and by [`super::sealing`].

use std::path::Path;

use serde_json::json;
use sqlx::PgConnection;

use super::apps::{
    self, AppSecrets, aes_key_context, callback_token_context, previous_aes_key_context,
};
use super::audit::{self, AuditAction, AuditContext, AuditRecord};
use super::sealing::{load_active_key, lock_active_key, read_id, require_key, unseal};
use super::{Error, Pool};
use crate::keyring::Keyring;
use crate::wire::{MasterKey, MasterKeyId};

/// The advisory lock that admits one rotation at a time.
const ROTATION_LOCK_ID: i64 = 0x6d75_7374_6572_6b01;

/// The result of the first sealing or of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationSummary {
    /// The key that seals now.
    pub id: MasterKeyId,
    /// The number of apps whose secrets were sealed.
    pub apps: usize,
}

/// Seals the secrets that a release without sealing left in the database, or stores the first key
/// in an empty database. Returns `None` if the database is sealed already. Several servers may call
/// this at once.
///
/// # Errors
/// [`Error::MasterKeyUnknown`] if the database is sealed with a key that is not in the keyring;
/// [`Error::Keyring`] if the keyring has no key; or when the database fails. Nothing was changed
/// then.
pub async fn seal_legacy_secrets(
    pool: &Pool,
    keyring: &Keyring,
    context: AuditContext<'_>,
) -> Result<Option<RotationSummary>, Error> {
    match load_active_key(pool, keyring).await {
        Err(Error::NotSealed) => {}
        active => return active.map(|_| None),
    }
    let mut transaction = pool.begin().await?;
    sqlx::query!("lock table sealing in share row exclusive mode")
        .execute(&mut *transaction)
        .await?;
    if let Some(existing) = sqlx::query_scalar!("select master_key_id from sealing")
        .fetch_optional(&mut *transaction)
        .await?
    {
        // Another server has sealed the secrets since the first check.
        return require_key(keyring, read_id(&existing)?).map(|_| None);
    }
    let key = keyring.first_or_generate()?;
    sqlx::query!("lock table app in access exclusive mode").execute(&mut *transaction).await?;
    let plain = apps::lock_secrets(&mut transaction).await?;
    apps::update_secrets(&mut transaction, &seal(&plain, &key)).await?;
    if !plain.is_empty() {
        // The update left the old rows in the table's file, and perhaps samples of them in the
        // planner's statistics. These statements write a new file and delete the samples.
        sqlx::raw_sql(
            "alter table app
                 alter column aes_key type bytea using aes_key || ''::bytea,
                 alter column callback_token type bytea using callback_token || ''::bytea",
        )
        .execute(&mut *transaction)
        .await?;
    }
    let id = key.id();
    sqlx::query!(
        "insert into sealing (master_key_id, since) values ($1, $2)",
        id.bytes(),
        context.at,
    )
    .execute(&mut *transaction)
    .await?;
    let details = json!({ "masterKey": id.to_string(), "apps": plain.len() });
    let record =
        AuditRecord { action: AuditAction::SecretsSeal, buin: None, app_id: None, details };
    audit::write(&mut transaction, context, record).await?;
    transaction.commit().await?;
    Ok(Some(RotationSummary { id, apps: plain.len() }))
}

/// Seals every secret with another key, which becomes the active one. Returns `None` if this key is
/// active already.
///
/// # Errors
/// [`Error::MasterKeyUnknown`] if the keyring lacks the active key; [`Error::Corrupt`] if a secret
/// cannot be opened; or when the database fails. Nothing was changed then.
pub async fn rotate(
    pool: &Pool,
    keyring: &Keyring,
    to: &MasterKey,
    context: AuditContext<'_>,
) -> Result<Option<RotationSummary>, Error> {
    let mut transaction = pool.begin().await?;
    let id = to.id();
    let stored = sqlx::query_scalar!("select master_key_id from sealing for update")
        .fetch_optional(&mut *transaction)
        .await?;
    let from = read_id(&stored.ok_or(Error::NotSealed)?)?;
    if from == id {
        return Ok(None);
    }
    require_key(keyring, from)?;
    let opened: Vec<AppSecrets> = apps::lock_secrets(&mut transaction)
        .await?
        .into_iter()
        .map(|sealed| sealed.open(keyring))
        .collect::<Result<_, Error>>()?;
    apps::update_secrets(&mut transaction, &seal(&opened, to)).await?;
    sqlx::query!("update sealing set master_key_id = $1, since = $2", id.bytes(), context.at)
        .execute(&mut *transaction)
        .await?;
    let details = json!({ "from": from.to_string(), "to": id.to_string(), "apps": opened.len() });
    let record =
        AuditRecord { action: AuditAction::SecretsRotate, buin: None, app_id: None, details };
    audit::write(&mut transaction, context, record).await?;
    transaction.commit().await?;
    Ok(Some(RotationSummary { id, apps: opened.len() }))
}

/// Removes old keys from a file of keys, if the file holds the active key. Returns their ids. No
/// audit record is written if the file has no old keys.
///
/// # Errors
/// When the database or the file fails. The file is then unchanged, except after a failure of the
/// final commit: the keys are then removed without an audit record.
pub async fn remove_old_keys(
    pool: &Pool,
    keyring: &Keyring,
    file: &Path,
    context: AuditContext<'_>,
) -> Result<Vec<MasterKeyId>, Error> {
    let mut transaction = pool.begin().await?;
    let active = lock_active_key(&mut transaction, keyring).await?.id();
    let removed = keyring.stale_ids(file, active)?;
    if removed.is_empty() {
        return Ok(removed);
    }
    let ids: Vec<String> = removed.iter().map(ToString::to_string).collect();
    let details = json!({ "active": active.to_string(), "removed": ids });
    let record =
        AuditRecord { action: AuditAction::SecretsDropKeys, buin: None, app_id: None, details };
    audit::write(&mut transaction, context, record).await?;
    keyring.retain(file, active)?;
    transaction.commit().await?;
    Ok(removed)
}

/// The lock of a rotation, released when this value is dropped.
pub struct RotationLock(#[expect(dead_code, reason = "held for its lock")] PgConnection);

/// Takes the lock. `None` if another rotation holds it.
///
/// # Errors
/// When the database fails.
pub async fn try_lock(pool: &Pool) -> Result<Option<RotationLock>, Error> {
    // The lock belongs to the connection, which must therefore never go back to the pool.
    let sessions = pool.session_pool().ok_or(Error::NoSession)?;
    let mut connection = sessions.acquire().await?.detach();
    let acquired =
        sqlx::query_scalar!(r#"select pg_try_advisory_lock($1) as "acquired!""#, ROTATION_LOCK_ID)
            .fetch_one(&mut connection)
            .await?;
    Ok(acquired.then_some(RotationLock(connection)))
}

impl AppSecrets {
    fn open(self, keyring: &Keyring) -> Result<Self, Error> {
        let Self { buin, app_id, aes_key, callback_token, previous_aes_key } = self;
        let aes_key = unseal(keyring, aes_key_context(buin, &app_id), &aes_key)?;
        let context = callback_token_context(buin, &app_id);
        let callback_token =
            callback_token.map(|token| unseal(keyring, context, &token)).transpose()?;
        let context = previous_aes_key_context(buin, &app_id);
        let previous_aes_key =
            previous_aes_key.map(|key| unseal(keyring, context, &key)).transpose()?;
        Ok(Self { buin, app_id, aes_key, callback_token, previous_aes_key })
    }
}

fn seal(plain: &[AppSecrets], key: &MasterKey) -> Vec<AppSecrets> {
    let sealed = |app: &AppSecrets| {
        let (buin, app_id) = (app.buin, app.app_id.as_str());
        let token = app.callback_token.as_ref();
        AppSecrets {
            buin,
            app_id: app_id.to_owned(),
            aes_key: key.seal(aes_key_context(buin, app_id), &app.aes_key).into(),
            callback_token: token
                .map(|token| key.seal(callback_token_context(buin, app_id), token).into()),
            previous_aes_key: app
                .previous_aes_key
                .as_ref()
                .map(|old| key.seal(previous_aes_key_context(buin, app_id), old).into()),
        }
    };
    plain.iter().map(sealed).collect()
}
