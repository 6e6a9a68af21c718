//! The permission that an endpoint needs, as a type: the signature of a handler names it.
//!
//! Each API decides for itself what an app needs beside it.

use crate::domain::Permission;

/// What a call needs.
pub(crate) trait RequiredPermission: 'static {
    /// Permissions of which one is enough, the least of them first; empty: any credential will do.
    const ANY_OF: &'static [Permission];
}

/// Needs no more than a valid credential.
pub(crate) struct AnyKey;

/// Reads sessions.
pub(crate) struct CanRead;

/// Creates or changes sessions.
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
