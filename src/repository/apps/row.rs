//! A row of the table, and the contents of its sealed columns.

use chrono::{DateTime, Utc};

use super::secrets::{aes_key_context, callback_token_context, previous_aes_key_context};
use super::stored::{PreviousAesKey, StoredApp};
use crate::domain::{App, Buin, Callback, Permission, Permissions, UnknownPermission};
use crate::keyring::Keyring;
use crate::repository::error::corrupt;
use crate::repository::{Error, sealing};
use crate::wire::{AesKey, MasterKey, SealContext};

pub(super) struct AppRow {
    pub(super) buin: i64,
    pub(super) app_id: String,
    pub(super) name: String,
    pub(super) aes_key: Vec<u8>,
    pub(super) permissions: Vec<String>,
    pub(super) forms: String,
    pub(super) callback_url: Option<String>,
    pub(super) callback_token: Option<Vec<u8>>,
    pub(super) callbacks_paused: bool,
    pub(super) disabled: bool,
    pub(super) previous_aes_key: Option<Vec<u8>>,
    pub(super) previous_aes_key_until: Option<DateTime<Utc>>,
    pub(super) archived: bool,
}

/// The secrets of an app, in their stored form.
pub(super) struct SealedSecrets {
    pub(super) aes_key: Vec<u8>,
    pub(super) callback_token: Option<Vec<u8>>,
    pub(super) previous_aes_key: Option<Vec<u8>>,
}

impl SealedSecrets {
    pub(super) fn new(key: &MasterKey, stored: &StoredApp) -> Self {
        let StoredApp { app, aes_key, previous, .. } = stored;
        let (buin, app_id) = (app.buin.get(), app.app_id.as_str());
        Self {
            aes_key: key.seal(aes_key_context(buin, app_id), aes_key.bytes()),
            previous_aes_key: previous.as_ref().map(|previous| {
                key.seal(previous_aes_key_context(buin, app_id), previous.key.bytes())
            }),
            callback_token: app.callback.as_ref().map(|callback| {
                key.seal(callback_token_context(buin, app_id), callback.token.as_bytes())
            }),
        }
    }
}

impl AppRow {
    pub(super) fn open(self, keyring: &Keyring) -> Result<StoredApp, Error> {
        let permissions: Result<Permissions, UnknownPermission> =
            self.permissions.iter().map(|name| name.parse::<Permission>()).collect();
        let context = aes_key_context(self.buin, &self.app_id);
        let aes_key = open_key(keyring, context, &self.aes_key)?;
        let context = previous_aes_key_context(self.buin, &self.app_id);
        // A server of a release that does not know this column may have replaced the master key.
        // Only the old key is lost then, before its time.
        let previous = self.previous_aes_key.zip(self.previous_aes_key_until);
        let previous = previous.and_then(|(key, until)| {
            Some(PreviousAesKey { key: open_key(keyring, context, &key).ok()?, until })
        });
        let context = callback_token_context(self.buin, &self.app_id);
        let callback = match self.callback_url.zip(self.callback_token) {
            Some((url, token)) => {
                let token = sealing::unseal(keyring, context, &token)?;
                let token = std::str::from_utf8(&token);
                let token = token.map_err(corrupt("app", "callback_token", "…"))?;
                Some(Callback { url, token: token.to_owned() })
            }
            None => None,
        };
        Ok(StoredApp {
            app: App {
                buin: Buin::new(self.buin).map_err(corrupt("app", "buin", self.buin))?,
                app_id: self.app_id.parse().map_err(corrupt("app", "app_id", &self.app_id))?,
                name: self.name,
                permissions: permissions.map_err(corrupt(
                    "app",
                    "permissions",
                    self.permissions.join(","),
                ))?,
                forms: self.forms.parse().map_err(corrupt("app", "forms", &self.forms))?,
                callback,
                callbacks_paused: self.callbacks_paused,
                disabled: self.disabled,
            },
            aes_key,
            previous,
            archived: self.archived,
        })
    }
}

fn open_key(keyring: &Keyring, context: SealContext<'_>, sealed: &[u8]) -> Result<AesKey, Error> {
    let key = sealing::unseal(keyring, context, sealed)?;
    let key = <[u8; 32]>::try_from(key.as_slice());
    Ok(AesKey::new(key.map_err(corrupt("app", "aes_key", "…"))?))
}
