//! A member of a session.

use super::{Account, Version};

/// A member of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The account.
    pub account: Account,
    /// The version that added the account, or gave it another position among the members.
    pub joined_version: Version,
    /// Whether the member is the owner.
    pub is_owner: bool,
}
