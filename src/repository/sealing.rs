//! Which master key seals the secrets in the database, and how another one takes its place.
//!
//! The database decides, not the order of anybody's keys: servers whose configuration is changed one
//! after another seal with the same key all the time. Who seals holds the row shared, who replaces
//! the key holds it alone.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;
use zeroize::Zeroizing;

use super::audit::{self, Act, Action, Line};
use super::error::corrupt;
use super::{Error, PgPool, apps};
use crate::keyring::Keyring;
use crate::wire::{MasterKey, MasterKeyId, Place};

/// The number of the advisory lock that rotations take turns by.
const ROTATING: i64 = 0x6d75_7374_6572_6b01;

/// The key that seals, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current {
    /// What it is called.
    pub id: MasterKeyId,
    /// When it began to.
    pub since: DateTime<Utc>,
}

/// What sealing or rotating has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// The key that seals now.
    pub id: MasterKeyId,
    /// How many apps had their secrets sealed.
    pub apps: usize,
}

/// The key that seals.
///
/// # Errors
/// [`Error::NotSealed`] if there is none yet, or when the database fails.
pub async fn current(pool: &PgPool) -> Result<Current, Error> {
    let row = sqlx::query!("select master_key_id, since from sealing").fetch_optional(pool).await?;
    let row = row.ok_or(Error::NotSealed)?;
    Ok(Current { id: read_id(&row.master_key_id)?, since: row.since })
}

/// Makes sure that the key that seals is here.
///
/// # Errors
/// [`Error::MasterKeyUnknown`], [`Error::NotSealed`], or when the database fails.
pub async fn verify(pool: &PgPool, keyring: &Keyring) -> Result<MasterKey, Error> {
    known(keyring, current(pool).await?.id)
}

/// Seals what a release without sealing left in the database, or just notes the key where there is
/// nothing. Gives nothing if that was done before. Several servers may do so at once.
///
/// # Errors
/// [`Error::MasterKeyUnknown`] if it was done with a key that is not here; [`Error::Keyring`] if there
/// is none to do it with; or when the database fails. Nothing was changed then.
pub async fn adopt(
    pool: &PgPool,
    keyring: &Keyring,
    act: Act<'_>,
) -> Result<Option<Resealed>, Error> {
    match verify(pool, keyring).await {
        Err(Error::NotSealed) => {}
        verified => return verified.map(|_| None),
    }
    let mut transaction = pool.begin().await?;
    sqlx::query!("lock table sealing in share row exclusive mode")
        .execute(&mut *transaction)
        .await?;
    if let Some(done) = sqlx::query_scalar!("select master_key_id from sealing")
        .fetch_optional(&mut *transaction)
        .await?
    {
        // Another server was faster.
        return known(keyring, read_id(&done)?).map(|_| None);
    }
    let key = keyring.first_or_new()?;
    sqlx::query!("lock table app in access exclusive mode").execute(&mut *transaction).await?;
    let plain = apps::secrets(&mut transaction).await?;
    apps::put_secrets(&mut transaction, &seal(&plain, &key)).await?;
    if !plain.is_empty() {
        // The update left the old rows in the table's file, and perhaps samples of them in the
        // planner's statistics. This writes a new file and drops those.
        sqlx::raw_sql(
            "alter table app
                 alter column aes_key type bytea using aes_key || ''::bytea,
                 alter column callback_token type bytea using callback_token || ''::bytea",
        )
        .execute(&mut *transaction)
        .await?;
    }
    let id = key.id();
    sqlx::query!("insert into sealing (master_key_id, since) values ($1, $2)", id.bytes(), act.at,)
        .execute(&mut *transaction)
        .await?;
    let details = json!({ "masterKey": id.to_string(), "apps": plain.len() });
    let line = Line { action: Action::SecretsSeal, buin: None, app_id: None, details };
    audit::write(&mut transaction, act, line).await?;
    transaction.commit().await?;
    Ok(Some(Resealed { id, apps: plain.len() }))
}

/// Seals every secret with another key, which seals from then on. Gives nothing if it does already.
///
/// # Errors
/// [`Error::MasterKeyUnknown`] if the key that sealed is not here; [`Error::Corrupt`] if a secret does
/// not open; or when the database fails. Nothing was changed then.
pub async fn rotate(
    pool: &PgPool,
    keyring: &Keyring,
    to: &MasterKey,
    act: Act<'_>,
) -> Result<Option<Resealed>, Error> {
    let mut transaction = pool.begin().await?;
    let id = to.id();
    let held = sqlx::query_scalar!("select master_key_id from sealing for update")
        .fetch_optional(&mut *transaction)
        .await?;
    let from = read_id(&held.ok_or(Error::NotSealed)?)?;
    if from == id {
        return Ok(None);
    }
    known(keyring, from)?;
    let opened: Vec<AppSecrets> = apps::secrets(&mut transaction)
        .await?
        .into_iter()
        .map(|sealed| sealed.opened(keyring))
        .collect::<Result<_, Error>>()?;
    apps::put_secrets(&mut transaction, &seal(&opened, to)).await?;
    sqlx::query!("update sealing set master_key_id = $1, since = $2", id.bytes(), act.at)
        .execute(&mut *transaction)
        .await?;
    let details = json!({ "from": from.to_string(), "to": id.to_string(), "apps": opened.len() });
    let line = Line { action: Action::SecretsRotate, buin: None, app_id: None, details };
    audit::write(&mut transaction, act, line).await?;
    transaction.commit().await?;
    Ok(Some(Resealed { id, apps: opened.len() }))
}

/// Takes the keys that seal no more out of a file of keys, if the one that seals is in it. Gives what
/// they are called; nothing is noted where there are none.
///
/// # Errors
/// When the database fails, or the file: then it is as it was. Should the database fail in the very
/// end, the keys are gone and that is not noted.
pub async fn drop_keys(
    pool: &PgPool,
    keyring: &Keyring,
    file: &Path,
    act: Act<'_>,
) -> Result<Vec<MasterKeyId>, Error> {
    let mut transaction = pool.begin().await?;
    let seals = hold(&mut transaction, keyring).await?.id();
    let dropped = keyring.others(file, seals)?;
    if dropped.is_empty() {
        return Ok(dropped);
    }
    let ids: Vec<String> = dropped.iter().map(ToString::to_string).collect();
    let details = json!({ "seals": seals.to_string(), "dropped": ids });
    let line = Line { action: Action::SecretsDropKeys, buin: None, app_id: None, details };
    audit::write(&mut transaction, act, line).await?;
    keyring.keep_only(file, seals)?;
    transaction.commit().await?;
    Ok(dropped)
}

/// The turn of one rotation; it ends when this is dropped.
pub struct Turn(#[expect(dead_code, reason = "held for its lock")] PgConnection);

/// Takes the turn; nothing if another rotation has it.
///
/// # Errors
/// When the database fails.
pub async fn turn(pool: &PgPool) -> Result<Option<Turn>, Error> {
    // The lock goes with the connection, so this one must never go back to the pool.
    let mut connection = pool.acquire().await?.detach();
    let taken = sqlx::query_scalar!(r#"select pg_try_advisory_lock($1) as "taken!""#, ROTATING)
        .fetch_one(&mut connection)
        .await?;
    Ok(taken.then_some(Turn(connection)))
}

/// The key that seals, which stays the one until the transaction ends.
pub(super) async fn hold(
    connection: &mut PgConnection,
    keyring: &Keyring,
) -> Result<MasterKey, Error> {
    let held = sqlx::query_scalar!("select master_key_id from sealing for share")
        .fetch_optional(connection)
        .await?;
    known(keyring, read_id(&held.ok_or(Error::NotSealed)?)?)
}

/// Opens a stored secret.
pub(super) fn unseal(
    keyring: &Keyring,
    place: Place<'_>,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (table, column) = place.column.split_once('.').unwrap_or(("", place.column));
    let whose = format!("… of app {} of enterprise {}", place.app_id, place.buin);
    let Some(id) = MasterKeyId::of(sealed) else {
        let error = Error::Corrupt { table, column, value: whose, why: "is not sealed".to_owned() };
        return Err(error);
    };
    known(keyring, id)?.unseal(place, sealed).map_err(corrupt(table, column, whose))
}

/// The secrets of an app, sealed or not.
pub(super) struct AppSecrets {
    pub(super) buin: i64,
    pub(super) app_id: String,
    pub(super) aes_key: Zeroizing<Vec<u8>>,
    pub(super) callback_token: Option<Zeroizing<Vec<u8>>>,
}

impl AppSecrets {
    fn opened(self, keyring: &Keyring) -> Result<Self, Error> {
        let Self { buin, app_id, aes_key, callback_token } = self;
        let aes_key = unseal(keyring, apps::aes_key_place(buin, &app_id), &aes_key)?;
        let place = apps::callback_token_place(buin, &app_id);
        let callback_token =
            callback_token.map(|token| unseal(keyring, place, &token)).transpose()?;
        Ok(Self { buin, app_id, aes_key, callback_token })
    }
}

fn seal(plain: &[AppSecrets], key: &MasterKey) -> Vec<AppSecrets> {
    let sealed = |app: &AppSecrets| {
        let (buin, app_id) = (app.buin, app.app_id.as_str());
        let token = app.callback_token.as_ref();
        AppSecrets {
            buin,
            app_id: app_id.to_owned(),
            aes_key: key.seal(apps::aes_key_place(buin, app_id), &app.aes_key).into(),
            callback_token: token
                .map(|token| key.seal(apps::callback_token_place(buin, app_id), token).into()),
        }
    };
    plain.iter().map(sealed).collect()
}

fn known(keyring: &Keyring, id: MasterKeyId) -> Result<MasterKey, Error> {
    keyring.find(id).ok_or_else(|| Error::MasterKeyUnknown { id, known: keyring.ids() })
}

fn read_id(stored: &[u8]) -> Result<MasterKeyId, Error> {
    let bytes = stored.try_into().map_err(corrupt("sealing", "master_key_id", "…"))?;
    Ok(MasterKeyId::new(bytes))
}
