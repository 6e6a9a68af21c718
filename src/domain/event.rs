//! The history of a session: the changes of each version, and the session that results from them.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use super::{
    Account, AppId, Attributes, AttributesPatch, Buin, Reason, Session, SessionId, State, Title,
    Version,
};

/// One version of a session: its operator, its app and its changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The version that the event made.
    pub version: Version,
    /// The kind of change.
    pub kind: EventKind,
    /// The account that acted.
    pub operator: Account,
    /// The app that acted for the operator.
    pub app_id: AppId,
    /// The reason, if the request had one.
    pub reason: Option<Reason>,
    /// The changed fields.
    pub changes: Changes,
    /// The time, never before that of the previous version.
    pub at: DateTime<Utc>,
}

/// The kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The session was created.
    Created,
    /// Title, owner, members or attributes changed.
    Updated,
    /// The title, owner, members and attributes of an earlier version were restored.
    Reverted,
    /// The session was dissolved.
    Dissolved,
    /// The session was restored.
    Restored,
}

/// The fields that differ after a change; `None` and empty lists stand for unchanged fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// The new title.
    pub title: Option<Title>,
    /// The new owner.
    pub owner: Option<Account>,
    /// All members, if `added` and `removed` do not determine their order.
    pub members: Option<Vec<Account>>,
    /// The new members.
    pub added: Vec<Account>,
    /// The members that left.
    pub removed: Vec<Account>,
    /// The patch of the attributes.
    pub attributes: Option<AttributesPatch>,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Created, Self::Updated, Self::Reverted, Self::Dissolved, Self::Restored];

    /// The name in the database and the APIs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Reverted => "reverted",
            Self::Dissolved => "dissolved",
            Self::Restored => "restored",
        }
    }

    /// The state after such a change; `None` if the state stays.
    #[must_use]
    pub fn state(self) -> Option<State> {
        match self {
            Self::Created | Self::Restored => Some(State::Active),
            Self::Dissolved => Some(State::Dissolved),
            Self::Updated | Self::Reverted => None,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is not a kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such kind")]
pub struct UnknownEventKind;

impl FromStr for EventKind {
    type Err = UnknownEventKind;

    fn from_str(name: &str) -> Result<Self, UnknownEventKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownEventKind)
    }
}

/// Builds a session from its history, event by event. It holds one version at a time.
#[derive(Debug)]
pub struct Replay {
    id: SessionId,
    buin: Buin,
    session: Option<Session>,
}

/// A history from which an event is missing: the first one or a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the history has no event for version {0}")]
pub struct MissingEvents(pub i64);

impl Changes {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Replay {
    /// Starts at an earlier version of the session, or before its creation.
    #[must_use]
    pub fn new(id: SessionId, buin: Buin, start: Option<Session>) -> Self {
        Self { id, buin, session: start }
    }

    /// Applies the next event.
    ///
    /// # Errors
    /// [`MissingEvents`] if the event does not follow directly, or if the first one is not the
    /// creation.
    pub fn push(&mut self, event: Event) -> Result<(), MissingEvents> {
        let expected =
            self.session.as_ref().map_or(Version::FIRST, |session| session.version.next());
        if event.version != expected {
            return Err(MissingEvents(expected.get()));
        }
        match &mut self.session {
            Some(session) => session.advance(event.kind, event.changes, event.at),
            None => self.session = Some(Session::from_created(self.id, self.buin, event)?),
        }
        Ok(())
    }

    /// The session after the events so far; `None` before its creation.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// The session after the events so far; `None` before its creation.
    #[must_use]
    pub fn into_session(self) -> Option<Session> {
        self.session
    }
}

impl Session {
    fn from_created(id: SessionId, buin: Buin, event: Event) -> Result<Self, MissingEvents> {
        let Event { kind: EventKind::Created, changes, at, .. } = event else {
            return Err(MissingEvents(1));
        };
        let (Some(title), Some(owner), Some(members)) =
            (changes.title, changes.owner, changes.members)
        else {
            return Err(MissingEvents(1));
        };
        Ok(Self {
            id,
            buin,
            title,
            owner,
            version: Version::FIRST,
            state: State::Active,
            members,
            attributes: Attributes::default()
                .merged(changes.attributes.as_ref().unwrap_or(&AttributesPatch::default())),
            created_at: at,
            updated_at: at,
        })
    }

    /// This session at the next version.
    pub(super) fn apply(&self, kind: EventKind, changes: &Changes, at: DateTime<Utc>) -> Self {
        Self {
            title: changes.title.as_ref().unwrap_or(&self.title).clone(),
            owner: changes.owner.as_ref().unwrap_or(&self.owner).clone(),
            version: self.version.next(),
            state: kind.state().unwrap_or(self.state),
            members: match &changes.members {
                Some(members) => members.clone(),
                None => self.next_members(&changes.added, &changes.removed),
            },
            attributes: match &changes.attributes {
                Some(patch) => self.attributes.merged(patch),
                None => self.attributes.clone(),
            },
            updated_at: at.max(self.updated_at),
            ..*self
        }
    }

    /// Turns this session into its next version. The result is that of [`Self::apply`], but nothing
    /// is copied: a replay applies many events to a session that may be large.
    fn advance(&mut self, kind: EventKind, changes: Changes, at: DateTime<Utc>) {
        let Changes { title, owner, members, added, removed, attributes } = changes;
        self.version = self.version.next();
        self.state = kind.state().unwrap_or(self.state);
        self.updated_at = at.max(self.updated_at);
        if let Some(title) = title {
            self.title = title;
        }
        if let Some(owner) = owner {
            self.owner = owner;
        }
        if let Some(members) = members {
            self.members = members;
        } else {
            remove_accounts(&mut self.members, &removed);
            self.members.extend(added);
        }
        if let Some(patch) = attributes {
            self.attributes.merge(&patch);
        }
    }

    /// The members after additions and removals. Remaining members keep their order; new members
    /// follow.
    pub(super) fn next_members(&self, added: &[Account], removed: &[Account]) -> Vec<Account> {
        let mut members = Vec::with_capacity(self.members.len() + added.len());
        if removed.is_empty() {
            members.extend_from_slice(&self.members);
        } else {
            let removed_accounts: HashSet<&Account> = removed.iter().collect();
            members.extend(
                self.members.iter().filter(|member| !removed_accounts.contains(member)).cloned(),
            );
        }
        members.extend_from_slice(added);
        members
    }

    /// The changes that turn this session into `target`, without the state.
    #[must_use]
    pub fn changes_to(&self, target: &Self) -> Changes {
        let members: HashSet<&Account> = self.members.iter().collect();
        let target_members: HashSet<&Account> = target.members.iter().collect();
        let added: Vec<_> =
            target.members.iter().filter(|m| !members.contains(m)).cloned().collect();
        let removed: Vec<_> =
            self.members.iter().filter(|m| !target_members.contains(m)).cloned().collect();
        let reordered = self.next_members(&added, &removed) != target.members;
        Changes {
            title: (self.title != target.title).then(|| target.title.clone()),
            owner: (self.owner != target.owner).then(|| target.owner.clone()),
            members: reordered.then(|| target.members.clone()),
            added,
            removed,
            attributes: self.attributes.patch_to(&target.attributes),
        }
    }
}

/// Removes accounts from a list, which keeps its order.
fn remove_accounts(members: &mut Vec<Account>, removed: &[Account]) {
    // A few accounts are cheaper to compare than to hash.
    const MAX_COMPARED: usize = 8;
    if removed.is_empty() {
        return;
    }
    if removed.len() <= MAX_COMPARED {
        members.retain(|member| !removed.contains(member));
    } else {
        let removed: HashSet<&Account> = removed.iter().collect();
        members.retain(|member| !removed.contains(member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_accounts_are_removed_alike() {
        let accounts = |numbers: &mut dyn Iterator<Item = usize>| -> Vec<Account> {
            numbers.map(|number| Account::new(&number.to_string()).unwrap()).collect()
        };
        for count in [0, 1, 8, 9, 40] {
            let mut members = accounts(&mut (0..50));
            remove_accounts(&mut members, &accounts(&mut (0..count)));
            assert_eq!(members, accounts(&mut (count..50)));
        }
    }
}
