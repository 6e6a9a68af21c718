//! An app as it is stored, its secrets open.

use crate::domain::{App, Permission, Permissions};
use crate::wire::AesKey;

/// An app with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredApp {
    /// What the app is.
    pub app: App,
    /// The key that it shares with Muster.
    pub aes_key: AesKey,
}

/// How permissions are stored.
pub(super) fn permission_names(permissions: Permissions) -> Vec<&'static str> {
    permissions.iter().map(Permission::name).collect()
}
