//! A stored app, with its secrets opened.

use chrono::{DateTime, Utc};

use crate::domain::{App, Permission, Permissions};
use crate::wire::AesKey;

/// An app with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredApp {
    /// The app.
    pub app: App,
    /// The key that it shares with Muster.
    pub aes_key: AesKey,
    /// The key before the last rotation, if it may still be accepted.
    pub previous: Option<PreviousAesKey>,
    /// Whether the app is out of use for ever.
    pub archived: bool,
}

/// The key of an app before its last rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousAesKey {
    /// The key.
    pub key: AesKey,
    /// The key is refused from this time on.
    pub until: DateTime<Utc>,
}

impl StoredApp {
    /// An app in use, with one key.
    #[must_use]
    pub fn new(app: App, aes_key: AesKey) -> Self {
        Self { app, aes_key, previous: None, archived: false }
    }
}

/// The stored names of permissions.
pub(super) fn permission_names(permissions: Permissions) -> Vec<&'static str> {
    permissions.iter().map(Permission::name).collect()
}
