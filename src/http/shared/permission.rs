//! The permission that an endpoint needs, as a type: the signature of a handler names it.
//!
//! Each API decides for itself what an app needs beside it.

use crate::domain::Permission;

/// What a call needs.
pub(crate) trait Needs: 'static {
    /// Permissions of which one is enough, the least of them first; empty: any credential will do.
    const ONE_OF: &'static [Permission];
}

/// Needs no more than a valid credential.
pub(crate) struct Anything;

/// Reads sessions.
pub(crate) struct Reads;

/// Creates or changes sessions.
pub(crate) struct Writes;

impl Needs for Anything {
    const ONE_OF: &'static [Permission] = &[];
}

impl Needs for Reads {
    const ONE_OF: &'static [Permission] = &[Permission::SessionsRead, Permission::SessionsAdmin];
}

impl Needs for Writes {
    const ONE_OF: &'static [Permission] = &[Permission::SessionsWrite, Permission::SessionsAdmin];
}
