//! The active master key and its rotation.
//!
//! At every moment of a rotation, a running server has all keys that it needs. All servers confirm
//! the new key before it seals a secret, and the old key stays until [`remove_old_keys`].

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::{AdminContext, Error, propagation, schema};
use crate::repository::{key_rotation, sealing};
use crate::wire::{MasterKey, MasterKeyId};

/// The active master key and the keys of the keyring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKeyStatus {
    /// The active key, which seals.
    pub active: MasterKeyId,
    /// The time at which the key became active.
    pub since: DateTime<Utc>,
    /// The keys of the keyring in their order.
    pub available: Vec<MasterKeyId>,
    /// The file that holds the first key; `None` if it comes from the environment.
    pub file: Option<PathBuf>,
}

/// A finished rotation of the master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKeyRotation {
    /// The previous active key.
    pub from: MasterKeyId,
    /// The new active key.
    pub to: MasterKeyId,
    /// The number of apps whose secrets were sealed with the new key.
    pub apps: usize,
    /// Whether the keys are in a file, from which [`remove_old_keys`] can remove the previous key.
    pub in_file: bool,
}

/// The result of [`remove_old_keys`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedKeys {
    /// The active key.
    pub active: MasterKeyId,
    /// The keys that were removed from the file.
    pub removed: Vec<MasterKeyId>,
}

/// Shows the active master key and the keys of the keyring.
///
/// # Errors
/// No key is active yet, or the database fails.
pub async fn status(admin: &AdminContext) -> Result<MasterKeyStatus, Error> {
    let active = sealing::active_key(&admin.pool).await?;
    Ok(MasterKeyStatus {
        active: active.id,
        since: active.since,
        available: admin.keyring.ids(),
        file: admin.keyring.primary_file().map(ToOwned::to_owned),
    })
}

/// Reads the keyring again, and makes sure that it has the active master key.
///
/// # Errors
/// [`Error::MasterKeyMissing`], or the keyring or the database fails.
pub async fn verify(admin: &AdminContext) -> Result<(), Error> {
    admin.keyring.load()?;
    sealing::load_active_key(&admin.pool, &admin.keyring).await.map_err(schema::missing_key)?;
    Ok(())
}

/// Seals all secrets with another master key: the first key of the keyring if another key is
/// active, else a new key, which is written to the key file. The new key seals nothing until all
/// running servers have confirmed that they have it.
///
/// # Errors
/// [`Error::RotationRunning`], [`Error::NoNewMasterKey`], [`Error::MasterKeyUnconfirmed`],
/// [`Error::RotationOvertaken`], or the keyring or the database fails.
pub async fn rotate(admin: &AdminContext) -> Result<MasterKeyRotation, Error> {
    let _lock = key_rotation::try_lock(&admin.pool).await?.ok_or(Error::RotationRunning)?;
    let from = sealing::active_key(&admin.pool).await?.id;
    let new = next_key(admin, from)?;
    let servers = propagation::unconfirmed(admin, new.id()).await?;
    if servers > 0 {
        return Err(Error::MasterKeyUnconfirmed { servers, id: new.id() });
    }
    let done =
        key_rotation::rotate(&admin.pool, &admin.keyring, &new, admin.audit_context()).await?;
    let done = done.ok_or(Error::RotationOvertaken)?;
    propagation::announce(admin).await;
    let in_file = admin.keyring.primary_file().is_some();
    Ok(MasterKeyRotation { from, to: done.id, apps: done.apps, in_file })
}

/// The key that becomes active.
fn next_key(admin: &AdminContext, active: MasterKeyId) -> Result<MasterKey, Error> {
    let keyring = &admin.keyring;
    if let Some(first) = keyring.first().filter(|first| first.id() != active) {
        return Ok(first);
    }
    let path = keyring.primary_file().ok_or(Error::NoNewMasterKey)?;
    let new = MasterKey::generate();
    keyring.prepend(path, &new)?;
    Ok(new)
}

/// Removes the inactive keys from the key file. Earlier backups need these keys.
///
/// # Errors
/// [`Error::RotationRunning`], [`Error::MasterKeyNotInFile`], or the keyring or the database fails.
pub async fn remove_old_keys(admin: &AdminContext) -> Result<RemovedKeys, Error> {
    let _lock = key_rotation::try_lock(&admin.pool).await?.ok_or(Error::RotationRunning)?;
    let path = admin.keyring.primary_file().ok_or(Error::MasterKeyNotInFile)?;
    let removed =
        key_rotation::remove_old_keys(&admin.pool, &admin.keyring, path, admin.audit_context())
            .await?;
    let active = sealing::active_key(&admin.pool).await?.id;
    Ok(RemovedKeys { active, removed })
}
