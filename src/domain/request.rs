//! What somebody asks to be done to a session. It cannot contradict itself.

use std::collections::HashSet;

use super::session::each_once;
use super::{Account, AttributesPatch, Expected, Reason, Refusal, Session, Title};

/// A request to change a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The account that acts.
    pub operator: Account,
    /// By what right.
    pub authority: Authority,
    /// Why, for the history.
    pub reason: Option<Reason>,
    /// The versions against which it is meant; any, if there are none.
    pub expected: Option<Expected>,
    /// What is to be done.
    pub action: Action,
}

/// By what right an operator acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// As a member: owner or not.
    Member,
    /// As whoever runs the apps: also from outside, with the rights of the owner. Then a reason
    /// must be given.
    Admin,
}

/// What is to be done to a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Change some of it.
    Update(Update),
    /// Make these the members. Who stays keeps the place; newcomers stand at the end.
    Members(Vec<Account>),
    /// Make it as it was, to the order of the members. Only the state is not turned back.
    Revert(Box<Session>),
    /// End it: it can be read from then on, not changed.
    Dissolve,
    /// Take that back.
    Restore,
}

/// Changes of single things of a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// The new title.
    pub title: Option<Title>,
    /// The new owner, who must be a member then.
    pub owner: Option<Account>,
    /// What becomes of the attributes.
    pub attributes: Option<AttributesPatch>,
    pub(super) add: Vec<Account>,
    pub(super) remove: Vec<Account>,
}

impl Request {
    /// What a member asks for, at whatever version.
    #[must_use]
    pub fn by(operator: Account, action: Action) -> Self {
        Self { operator, authority: Authority::Member, reason: None, expected: None, action }
    }
}

impl Action {
    /// How many accounts it names.
    #[must_use]
    pub fn accounts(&self) -> usize {
        match self {
            Self::Update(update) => update.add.len() + update.remove.len(),
            Self::Members(members) => members.len(),
            Self::Revert(session) => session.members.len(),
            Self::Dissolve | Self::Restore => 0,
        }
    }
}

impl Update {
    /// Changes members: lists may be empty, and lose their repeats.
    ///
    /// # Errors
    /// [`Refusal::AddedAndRemoved`] when one account stands in both lists.
    pub fn of_members(add: Vec<Account>, remove: Vec<Account>) -> Result<Self, Refusal> {
        let add = each_once(add);
        let remove = each_once(remove);
        if !add.is_empty() && !remove.is_empty() {
            let added: HashSet<&Account> = add.iter().collect();
            if let Some(both) = remove.iter().find(|account| added.contains(account)) {
                return Err(Refusal::AddedAndRemoved { account: both.clone() });
            }
        }
        Ok(Self { add, remove, ..Self::default() })
    }
}
