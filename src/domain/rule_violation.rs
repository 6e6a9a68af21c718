//! The rules that a request can violate.

use std::borrow::Cow;
use std::fmt;

use super::{Account, Version, VersionPrecondition};

/// A rule that a request violates. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleViolation {
    /// The operator is not a member of the session.
    #[error("{operator} is not a member of the session")]
    NotAMember {
        /// The operator.
        operator: Account,
    },
    /// Only the owner may remove other members.
    #[error("only the owner may remove {account}")]
    RemovalNotAllowed {
        /// The member to be removed.
        account: Account,
    },
    /// Only the owner may take this action.
    #[error("only the owner may {act}")]
    OwnerOnly {
        /// The refused action.
        act: OwnerOnlyAction,
    },
    /// An administrator must give a reason.
    #[error("required for a change with the rights of an administrator, got none")]
    MissingReason,
    /// The new owner is not a member of the session, or leaves it with the same request.
    #[error("{owner} is not a member of the session")]
    OwnerNotAMember {
        /// The new owner.
        owner: Account,
    },
    /// The attributes would become too large.
    #[error("at most {max} bytes as compact JSON, got {got}")]
    AttributesTooLarge {
        /// The limit, in bytes.
        max: usize,
        /// The size that the attributes would have, in bytes.
        got: usize,
    },
    /// An account is both added and removed.
    #[error("{account} is also in addMember")]
    AddedAndRemoved {
        /// The account in both lists.
        account: Account,
    },
    /// Too few members, at creation or after an update.
    #[error("at least {min} members in the session, got {got}")]
    TooFewMembers {
        /// The minimum number of members.
        min: usize,
        /// The number of members that the session would have.
        got: usize,
    },
    /// Too many members, at creation or after an update.
    #[error("at most {max} members, got {got}")]
    TooManyMembers {
        /// The maximum number of members.
        max: usize,
        /// The number of members that the session would have.
        got: usize,
    },
    /// The session is dissolved: it can be read, but not changed.
    #[error("the session is dissolved")]
    Dissolved,
    /// The caller named a version that is not the current one.
    #[error("expected {expected}, the current version is {current}")]
    VersionConflict {
        /// The versions that the caller named.
        expected: VersionPrecondition,
        /// The version that the session has.
        current: Version,
    },
    /// The caller excluded the version that is the current one.
    #[error("the current version is {current}")]
    VersionExcluded {
        /// The version that the session has.
        current: Version,
    },
}

impl RuleViolation {
    /// The violated rule without the values of the request: the text for a caller who must not learn
    /// them.
    #[must_use]
    pub fn without_values(&self) -> Cow<'static, str> {
        match self {
            Self::NotAMember { .. } | Self::OwnerNotAMember { .. } => {
                "not a member of the session".into()
            }
            Self::RemovalNotAllowed { .. } => "only the owner may remove other members".into(),
            Self::OwnerOnly { act } => format!("only the owner may {act}").into(),
            Self::MissingReason => {
                "required for a change with the rights of an administrator, got none".into()
            }
            Self::AttributesTooLarge { max, .. } => {
                format!("at most {max} bytes as compact JSON").into()
            }
            Self::AddedAndRemoved { .. } => "an account is also in addMember".into(),
            Self::TooFewMembers { min, .. } => {
                format!("at least {min} members in the session").into()
            }
            Self::TooManyMembers { max, .. } => format!("at most {max} members").into(),
            Self::Dissolved => "the session is dissolved".into(),
            Self::VersionConflict { current, .. } | Self::VersionExcluded { current } => {
                format!("the current version is {current}").into()
            }
        }
    }
}

/// An action that only the owner may take, besides removing other members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerOnlyAction {
    /// Make another member the owner.
    HandOver,
    /// Dissolve the session.
    Dissolve,
    /// Restore a dissolved session.
    Restore,
}

impl fmt::Display for OwnerOnlyAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HandOver => "hand the session over",
            Self::Dissolve => "dissolve the session",
            Self::Restore => "restore the session",
        })
    }
}
