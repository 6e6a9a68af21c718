//! A request to change a session. A value of these types cannot contradict itself.

use std::collections::HashSet;

use super::session::dedup_stable;
use super::{Account, AttributesPatch, Reason, RuleViolation, Session, Title, VersionPrecondition};

/// A request to change a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The account that acts.
    pub operator: Account,
    /// The right by which the operator acts.
    pub authority: Authority,
    /// The reason, for the history.
    pub reason: Option<Reason>,
    /// The versions that the session may have; `None` = any.
    pub precondition: Option<VersionPrecondition>,
    /// The action.
    pub action: Action,
}

/// The right by which an operator acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// As a member: owner or not.
    Member,
    /// As an administrator: with the rights of the owner, and without membership. A reason is
    /// required.
    Admin,
}

/// The action of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Change single fields.
    Update(Update),
    /// Replace the list of members. Remaining members keep their order; new ones follow.
    Members(Vec<Account>),
    /// Restore an earlier version, including the order of the members. The state stays.
    Revert(Box<Session>),
    /// Dissolve the session: it can still be read, but not changed.
    Dissolve,
    /// Restore a dissolved session.
    Restore,
}

/// Changes of single fields of a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// The new title.
    pub title: Option<Title>,
    /// The new owner, which must be a member after the update.
    pub owner: Option<Account>,
    /// The patch of the attributes.
    pub attributes: Option<AttributesPatch>,
    pub(super) add: Vec<Account>,
    pub(super) remove: Vec<Account>,
}

impl Request {
    /// A request of a member, for any version of the session.
    #[must_use]
    pub fn for_member(operator: Account, action: Action) -> Self {
        Self { operator, authority: Authority::Member, reason: None, precondition: None, action }
    }
}

impl Action {
    /// Whether the action changes nothing in any session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Update(update) if *update == Update::default())
    }

    /// The estimated memory of the attributes in the action, in bytes.
    #[must_use]
    pub fn attributes_size(&self) -> usize {
        match self {
            Self::Update(update) => update.attributes.as_ref().map_or(0, AttributesPatch::size),
            Self::Revert(session) => session.attributes.size(),
            Self::Members(_) | Self::Dissolve | Self::Restore => 0,
        }
    }

    /// The number of accounts in the action.
    #[must_use]
    pub fn account_count(&self) -> usize {
        match self {
            Self::Update(update) => update.add.len() + update.remove.len(),
            Self::Members(members) => members.len(),
            Self::Revert(session) => session.members.len(),
            Self::Dissolve | Self::Restore => 0,
        }
    }
}

impl Update {
    /// Adds and removes members. Lists may be empty; duplicates are dropped.
    ///
    /// # Errors
    /// [`RuleViolation::AddedAndRemoved`] if an account is in both lists.
    pub fn for_members(add: Vec<Account>, remove: Vec<Account>) -> Result<Self, RuleViolation> {
        let add = dedup_stable(add);
        let remove = dedup_stable(remove);
        if !add.is_empty() && !remove.is_empty() {
            let added: HashSet<&Account> = add.iter().collect();
            if let Some(duplicate) = remove.iter().find(|account| added.contains(account)) {
                return Err(RuleViolation::AddedAndRemoved { account: duplicate.clone() });
            }
        }
        Ok(Self { add, remove, ..Self::default() })
    }
}
