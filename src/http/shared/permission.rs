//! The permission that an endpoint needs, as a type: the signature of a handler names it.
//!
//! Each API decides which of the listed permissions it accepts.

use crate::domain::Permission;

/// The permissions that an endpoint needs.
pub(crate) trait RequiredPermission: 'static {
    /// One of these permissions is enough. The weakest comes first. If the list is empty, any valid
    /// credential is enough.
    const ANY_OF: &'static [Permission];
}

/// A valid credential is enough.
pub(crate) struct AnyKey;

/// The endpoint reads sessions.
pub(crate) struct CanRead;

/// The endpoint creates or changes sessions.
pub(crate) struct CanWrite;

impl RequiredPermission for AnyKey {
    const ANY_OF: &'static [Permission] = &[];
}

impl RequiredPermission for CanRead {
    const ANY_OF: &'static [Permission] = &[Permission::SessionsRead, Permission::SessionsAdmin];
}

impl RequiredPermission for CanWrite {
    const ANY_OF: &'static [Permission] = &[Permission::SessionsWrite, Permission::SessionsAdmin];
}
