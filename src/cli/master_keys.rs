//! The master keys of a command or a server, from the configuration.

use std::path::PathBuf;

use anyhow::Context as _;

use super::misconfigured::Misconfigured;
use crate::config::{KeyText, Settings};
use crate::keyring::{KeyFile, Keyring};
use crate::wire::MasterKey;

/// The master keys, from the configuration.
pub(super) fn keyring(settings: &Settings) -> Keyring {
    let secrets = &settings.secrets;
    let key = |text: &KeyText| MasterKey::new(*text.bytes());
    let file = match (&secrets.master_key_file, &settings.database.url) {
        (Some(path), _) => Some(KeyFile { path: path.clone(), create: false }),
        (None, None) => Some(KeyFile { path: own_key_file(settings), create: true }),
        // Other servers of the database would not have a key that is generated here.
        (None, Some(_)) => None,
    };
    let (first, last) = (secrets.master_key.as_ref(), secrets.previous_master_key.as_ref());
    Keyring::new(first.map(key), file, last.map(key))
}

/// Refuses a configured file of master keys that cannot be used, as any other mistake of the
/// configuration.
///
/// # Errors
/// [`Misconfigured`], with the cause.
pub(super) fn check_file(settings: &Settings) -> anyhow::Result<()> {
    let Some(path) = &settings.secrets.master_key_file else { return Ok(()) };
    keyring(settings).load().with_context(|| {
        Misconfigured(format!("secrets.master_key_file cannot be used: {}", path.display()))
    })
}

/// The file of master keys of an embedded database.
pub(super) fn own_key_file(settings: &Settings) -> PathBuf {
    settings.data_dir.join("master.key")
}
