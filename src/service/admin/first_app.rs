//! The first app of a database, for a start without any configuration.
//!
//! The caller keeps the credentials in a file, and writes the file between [`choose`] and
//! [`create`]. If a start is interrupted in between, the next start creates the app with the same
//! credentials.

use super::apps::{self, RegisteredApp};
use super::{AdminContext, Error, keys};
use crate::domain::{AllowedForms, App, AppId, Buin, Permissions};
use crate::wire::{AesKey, ApiKey};

/// The credentials of the first app.
pub struct FirstApp {
    /// The enterprise.
    pub buin: Buin,
    /// The id of the app.
    pub app_id: AppId,
    /// The AES key of the app.
    pub aes_key: AesKey,
    /// An API key of the app.
    pub api_key: ApiKey,
}

/// A first app whose credentials can be saved before it is created.
pub struct ChosenApp {
    /// The credentials.
    pub credentials: FirstApp,
    /// The database has no apps.
    is_missing: bool,
}

/// Chooses the credentials: `saved` with the current AES key of the app, or new ones if the
/// database has no apps. `None` if the database has apps and no credentials are saved. Writes
/// nothing.
///
/// # Errors
/// A secret cannot be opened, or the database fails.
pub async fn choose(
    admin: &AdminContext,
    saved: Option<FirstApp>,
) -> Result<Option<ChosenApp>, Error> {
    let apps = apps::list(admin).await?;
    let is_missing = apps.is_empty();
    let Some(mut credentials) = saved.or_else(|| is_missing.then(FirstApp::generate)) else {
        return Ok(None);
    };
    let is_chosen = |app: &App| app.buin == credentials.buin && app.app_id == credentials.app_id;
    if let Some(stored) = apps.into_iter().find(|stored| is_chosen(&stored.app)) {
        credentials.aes_key = stored.aes_key;
    }
    Ok(Some(ChosenApp { credentials, is_missing }))
}

/// Creates the app if the database had no apps, and its API key unless the database has the key,
/// valid or revoked. Credentials of another database are ignored. `label` names the key.
///
/// # Errors
/// A secret cannot be opened, or the database fails.
pub async fn create(admin: &AdminContext, chosen: &ChosenApp, label: &str) -> Result<(), Error> {
    let first = &chosen.credentials;
    if chosen.is_missing {
        let created = match apps::create(admin, first.registered()).await {
            Ok(created) => created.commit(admin).await,
            Err(error) => Err(error),
        };
        match created {
            // Another server on this database has created the app from the same file.
            Ok(_) | Err(Error::AppExists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    match keys::ensure(admin, &first.api_key, first.buin, &first.app_id, label).await {
        Err(Error::AppNotFound { .. }) => Ok(()),
        result => result,
    }
}

impl FirstApp {
    fn generate() -> Self {
        Self {
            buin: Buin::FIRST_APP,
            app_id: AppId::generate(),
            aes_key: AesKey::generate(),
            api_key: ApiKey::generate(),
        }
    }

    fn registered(&self) -> RegisteredApp {
        let app = App {
            buin: self.buin,
            app_id: self.app_id.clone(),
            name: "First app".to_owned(),
            permissions: Permissions::for_new_app(),
            forms: AllowedForms::Both,
            callback: None,
            callbacks_paused: false,
            disabled: false,
        };
        RegisteredApp::new(app, self.aes_key.clone())
    }
}
