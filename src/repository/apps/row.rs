//! A row of the table, and the contents of its sealed columns.

use super::secrets::{aes_key_context, callback_token_context};
use super::stored::StoredApp;
use crate::domain::{App, Buin, Callback, Permission, Permissions, UnknownPermission};
use crate::keyring::Keyring;
use crate::repository::error::corrupt;
use crate::repository::{Error, sealing};
use crate::wire::{AesKey, MasterKey};

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
}

/// The secrets of an app, in their stored form.
pub(super) struct SealedSecrets {
    pub(super) aes_key: Vec<u8>,
    pub(super) callback_token: Option<Vec<u8>>,
}

impl SealedSecrets {
    pub(super) fn new(key: &MasterKey, StoredApp { app, aes_key }: &StoredApp) -> Self {
        let (buin, app_id) = (app.buin.get(), app.app_id.as_str());
        Self {
            aes_key: key.seal(aes_key_context(buin, app_id), aes_key.bytes()),
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
        let aes_key =
            sealing::unseal(keyring, aes_key_context(self.buin, &self.app_id), &self.aes_key)?;
        let aes_key = <[u8; 32]>::try_from(aes_key.as_slice());
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
            aes_key: AesKey::new(aes_key.map_err(corrupt("app", "aes_key", "…"))?),
        })
    }
}
