//! A stored app, with its secrets opened.

use crate::domain::{App, Permission, Permissions};
use crate::wire::AesKey;

/// An app with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredApp {
    /// The app.
    pub app: App,
    /// The key that it shares with Muster.
    pub aes_key: AesKey,
}

/// The stored names of permissions.
pub(super) fn permission_names(permissions: Permissions) -> Vec<&'static str> {
    permissions.iter().map(Permission::name).collect()
}
