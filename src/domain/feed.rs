//! The feed of an enterprise: its changes in one order, each with a number.

use super::text;
use super::{Account, AppId, Event, EventKind, Invalid, SessionId};

/// The number of a change among those of its enterprise, from 1 without gaps. 0 is the beginning,
/// before the first change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeedSeq(i64);

impl FeedSeq {
    /// The position before the first change.
    pub const BEGINNING: Self = Self(0);

    /// A position behind every change.
    pub const LAST: Self = Self(i64::MAX);

    /// Accepts a number from 0.
    ///
    /// # Errors
    /// [`Invalid::TooSmall`] for a negative number.
    pub fn new(number: i64) -> Result<Self, Invalid> {
        text::at_least(0, number).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

/// Selects changes: a change must meet every condition that is set. Whether a change matches depends
/// on this change alone, so each filter has a fixed stream of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FeedFilter {
    /// This account is a member before or after the change.
    pub member: Option<Account>,
    /// This account is the owner before or after the change.
    pub owner: Option<Account>,
    /// The change belongs to this session.
    pub session: Option<SessionId>,
    /// The change is of this kind.
    pub kind: Option<EventKind>,
    /// This app made the change.
    pub app: Option<AppId>,
}

/// A role of an account in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionRole {
    /// A member, owner included.
    Member,
    /// The owner.
    Owner,
}

/// A change with its position in the feed.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedEvent {
    /// The number of the change.
    pub seq: FeedSeq,
    /// The session.
    pub session_id: SessionId,
    /// The change.
    pub event: Event,
}

impl FeedFilter {
    /// Whether every change matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a change matches. `has_role` tells whether an account has a role before or after the
    /// change. It is asked last, and only for the accounts of the filter.
    pub fn matches(
        &self,
        change: &FeedEvent,
        mut has_role: impl FnMut(SessionRole, &Account) -> bool,
    ) -> bool {
        let Self { member, owner, session, kind, app } = self;
        session.is_none_or(|session| session == change.session_id)
            && kind.is_none_or(|kind| kind == change.event.kind)
            && app.as_ref().is_none_or(|app| *app == change.event.app_id)
            && member.as_ref().is_none_or(|account| has_role(SessionRole::Member, account))
            && owner.as_ref().is_none_or(|account| has_role(SessionRole::Owner, account))
    }
}
