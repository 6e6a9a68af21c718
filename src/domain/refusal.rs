//! Why a rule says no.

use super::{Account, Version};

/// A request that the rules of sessions refuse. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Who acts is not a member of the session.
    #[error("{operator} is no member of this session")]
    NotAMember {
        /// Who wanted to act.
        operator: Account,
    },
    /// Only the owner may remove others.
    #[error("only the owner may remove {account}")]
    MayNotRemove {
        /// Whom they wanted to remove.
        account: Account,
    },
    /// One account both to be added and to be removed.
    #[error("{account} stands in addMember as well")]
    AddedAndRemoved {
        /// The account in both lists.
        account: Account,
    },
    /// Too few members, at creation or after an update.
    #[error("at least {min} members, creator included; got {got}")]
    TooFewMembers {
        /// The least number of members.
        min: usize,
        /// How many there would be.
        got: usize,
    },
    /// Too many members, at creation or after an update.
    #[error("at most {max} members, got {got}")]
    TooManyMembers {
        /// The largest number of members.
        max: usize,
        /// How many there would be.
        got: usize,
    },
    /// The session is dissolved: it can be read, not changed.
    #[error("the session is dissolved")]
    Dissolved,
    /// The caller named a version that is not the current one.
    #[error("expected {expected}, the current version is {current}")]
    VersionConflict {
        /// The version that the caller named.
        expected: Version,
        /// The version that the session has.
        current: Version,
    },
}
