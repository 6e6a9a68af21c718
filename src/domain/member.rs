//! Somebody in a session.

use super::{Account, Version};

/// A member of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The account.
    pub account: Account,
    /// The version that brought the account in, or gave it another place among the members.
    pub joined_version: Version,
    /// Whether the session is theirs.
    pub is_owner: bool,
}
