//! The active master key: the one that seals the secrets in the database.
//!
//! The database decides, not the order of the keys in a configuration. So all servers seal with the
//! same key while their configurations are changed one after another. A transaction that seals
//! locks the row `for share`; one that replaces the key (see [`super::key_rotation`]) locks it `for
//! update`.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use zeroize::Zeroizing;

use super::error::corrupt;
use super::{Error, Pool};
use crate::keyring::Keyring;
use crate::wire::{MasterKey, MasterKeyId, SealContext};

/// The active key, and the time since when it seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveKey {
    /// The id of the key.
    pub id: MasterKeyId,
    /// The time when the key became active.
    pub since: DateTime<Utc>,
}

/// Reads the active key's id.
///
/// # Errors
/// [`Error::NotSealed`] if no key seals yet, or when the database fails.
pub async fn active_key(pool: &Pool) -> Result<ActiveKey, Error> {
    let row = sqlx::query!("select master_key_id, since from sealing").fetch_optional(pool).await?;
    let row = row.ok_or(Error::NotSealed)?;
    Ok(ActiveKey { id: read_id(&row.master_key_id)?, since: row.since })
}

/// Reads the active key, from the keyring.
///
/// # Errors
/// [`Error::MasterKeyUnknown`], [`Error::NotSealed`], or when the database fails.
pub async fn load_active_key(pool: &Pool, keyring: &Keyring) -> Result<MasterKey, Error> {
    require_key(keyring, active_key(pool).await?.id)
}

/// Reads the active key and locks it: it cannot be replaced until the transaction ends.
pub(super) async fn lock_active_key(
    connection: &mut PgConnection,
    keyring: &Keyring,
) -> Result<MasterKey, Error> {
    let stored = sqlx::query_scalar!("select master_key_id from sealing for share")
        .fetch_optional(connection)
        .await?;
    require_key(keyring, read_id(&stored.ok_or(Error::NotSealed)?)?)
}

/// Opens a stored secret.
pub(super) fn unseal(
    keyring: &Keyring,
    context: SealContext<'_>,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (table, column) = context.column.split_once('.').unwrap_or(("", context.column));
    let owner = format!("… of app {} of enterprise {}", context.app_id, context.buin);
    let Some(id) = MasterKeyId::from_sealed(sealed) else {
        let reason = "is not sealed".to_owned();
        return Err(Error::Corrupt { table, column, value: owner, reason });
    };
    require_key(keyring, id)?.unseal(context, sealed).map_err(corrupt(table, column, owner))
}

pub(super) fn require_key(keyring: &Keyring, id: MasterKeyId) -> Result<MasterKey, Error> {
    keyring.find(id).ok_or_else(|| Error::MasterKeyUnknown { id, available: keyring.ids() })
}

pub(super) fn read_id(stored: &[u8]) -> Result<MasterKeyId, Error> {
    let bytes = stored.try_into().map_err(corrupt("sealing", "master_key_id", "…"))?;
    Ok(MasterKeyId::new(bytes))
}
