//! Which master key seals the secrets in the database.
//!
//! The database decides, not the order of the keys in a configuration, so that servers seal with
//! the same key while their configuration is changed one after another. A transaction that seals
//! locks the row `for share`; one that replaces the key (see [`super::key_rotation`]) locks it `for
//! update`.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use zeroize::Zeroizing;

use super::error::corrupt;
use super::{Error, PgPool};
use crate::keyring::Keyring;
use crate::wire::{MasterKey, MasterKeyId, Place};

/// The key that seals, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current {
    /// Its id.
    pub id: MasterKeyId,
    /// When it began to seal.
    pub since: DateTime<Utc>,
}

/// The key that seals.
///
/// # Errors
/// [`Error::NotSealed`] if no key seals yet, or when the database fails.
pub async fn current(pool: &PgPool) -> Result<Current, Error> {
    let row = sqlx::query!("select master_key_id, since from sealing").fetch_optional(pool).await?;
    let row = row.ok_or(Error::NotSealed)?;
    Ok(Current { id: read_id(&row.master_key_id)?, since: row.since })
}

/// The key that seals, from the keyring.
///
/// # Errors
/// [`Error::MasterKeyUnknown`], [`Error::NotSealed`], or when the database fails.
pub async fn verify(pool: &PgPool, keyring: &Keyring) -> Result<MasterKey, Error> {
    known(keyring, current(pool).await?.id)
}

/// The key that seals. It cannot be replaced until the transaction ends.
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

pub(super) fn known(keyring: &Keyring, id: MasterKeyId) -> Result<MasterKey, Error> {
    keyring.find(id).ok_or_else(|| Error::MasterKeyUnknown { id, known: keyring.ids() })
}

pub(super) fn read_id(stored: &[u8]) -> Result<MasterKeyId, Error> {
    let bytes = stored.try_into().map_err(corrupt("sealing", "master_key_id", "…"))?;
    Ok(MasterKeyId::new(bytes))
}
