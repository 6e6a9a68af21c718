//! Arrays, one per column, that the writing statements unnest.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::provenance::Provenance;
use super::stored::StoredChanges;
use super::titles;
use crate::domain::{Account, Change, EventKind, IdempotencyKey, Reason, Session, Version};

/// Rows of `session`.
#[derive(Default)]
pub(super) struct SessionColumns<'a> {
    pub(super) session_ids: Vec<Uuid>,
    pub(super) buins: Vec<i64>,
    pub(super) versions: Vec<i64>,
    pub(super) states: Vec<&'a str>,
    pub(super) titles: Vec<&'a str>,
    pub(super) owners: Vec<&'a str>,
    pub(super) member_counts: Vec<i32>,
    pub(super) at: Vec<DateTime<Utc>>,
    /// The new attributes as JSON, if they change.
    pub(super) attributes: Vec<Option<String>>,
}

impl<'a> SessionColumns<'a> {
    pub(super) fn push(&mut self, after: &'a Session) {
        self.session_ids.push(after.id.uuid());
        self.buins.push(after.buin.get());
        self.versions.push(after.version.get());
        self.states.push(after.state.name());
        self.titles.push(after.title.as_str());
        self.owners.push(after.owner.as_str());
        self.member_counts.push(to_i32(after.members.len()));
        self.at.push(after.updated_at);
    }

    /// Sets the new attributes of the last pushed session, if they change.
    pub(super) fn set_attributes(&mut self, attributes: Option<&Map<String, Value>>) {
        self.attributes.push(attributes.map(to_json));
    }
}

/// Rows of `session_event`.
#[derive(Default)]
pub(super) struct EventColumns<'a> {
    pub(super) session_ids: Vec<Uuid>,
    pub(super) versions: Vec<i64>,
    pub(super) kinds: Vec<&'a str>,
    pub(super) operators: Vec<&'a str>,
    pub(super) app_ids: Vec<&'a str>,
    pub(super) titles: Vec<&'a str>,
    pub(super) owners: Vec<&'a str>,
    pub(super) reasons: Vec<Option<&'a str>>,
    pub(super) changes: Vec<String>,
    /// The changed attributes, as JSON.
    pub(super) patches: Vec<Option<String>>,
    pub(super) at: Vec<DateTime<Utc>>,
    /// The traces for the deliveries of the events.
    pub(super) traces: Vec<Option<Vec<u8>>>,
}

impl<'a> EventColumns<'a> {
    pub(super) fn push(
        &mut self,
        after: &'a Session,
        kind: EventKind,
        changes: &StoredChanges<'_>,
        patch: Option<&Map<String, Value>>,
        provenance: &Provenance<'a>,
    ) {
        let Provenance { app_id, operator, reason, trace, .. } = provenance;
        self.session_ids.push(after.id.uuid());
        self.versions.push(after.version.get());
        self.kinds.push(kind.name());
        self.operators.push(operator.as_str());
        self.app_ids.push(app_id.as_str());
        self.titles.push(after.title.as_str());
        self.owners.push(after.owner.as_str());
        self.reasons.push(reason.map(Reason::as_str));
        // Text and lists of text can always be written as JSON.
        self.changes.push(serde_json::to_string(changes).unwrap_or_default());
        self.patches.push(patch.map(to_json));
        self.at.push(after.updated_at);
        self.traces.push(trace.map(|trace| trace.bytes().to_vec()));
    }
}

/// The position of a member in the list of members.
#[derive(Clone, Copy)]
pub(super) struct MemberPosition {
    /// The version that set it.
    pub(super) joined: Version,
    /// The index among the members placed by that version.
    pub(super) position: usize,
}

/// Rows of `session_member` to insert, to move or to delete.
#[derive(Default)]
pub(super) struct MemberColumns<'a> {
    pub(super) session_ids: Vec<Uuid>,
    pub(super) buins: Vec<i64>,
    pub(super) accounts: Vec<&'a str>,
    pub(super) joined_versions: Vec<i64>,
    pub(super) positions: Vec<i32>,
}

impl<'a> MemberColumns<'a> {
    /// Pushes accounts that joined with this version, in their order.
    pub(super) fn push_all(&mut self, after: &Session, accounts: &'a [Account]) {
        for (position, account) in accounts.iter().enumerate() {
            self.push(after, account, MemberPosition { joined: after.version, position });
        }
    }

    pub(super) fn push(
        &mut self,
        session: &Session,
        account: &'a Account,
        member_position: MemberPosition,
    ) {
        self.session_ids.push(session.id.uuid());
        self.buins.push(session.buin.get());
        self.accounts.push(account.as_str());
        self.joined_versions.push(member_position.joined.get());
        self.positions.push(to_i32(member_position.position));
    }
}

/// Rows of `role_change`.
#[derive(Default)]
pub(super) struct RoleColumns<'a> {
    pub(super) session_ids: Vec<Uuid>,
    pub(super) versions: Vec<i64>,
    pub(super) accounts: Vec<&'a str>,
    pub(super) roles: Vec<&'a str>,
    pub(super) gained: Vec<bool>,
}

impl<'a> RoleColumns<'a> {
    const MEMBER: &'static str = "member";
    const OWNER: &'static str = "owner";

    /// Pushes the members who join and leave with a change, and the owners before and after it if
    /// they differ.
    pub(super) fn push_all(&mut self, owner_before: &'a Account, change: &'a Change) {
        let Change { after, changes, .. } = change;
        for account in &changes.added {
            self.push(after, account, Self::MEMBER, true);
        }
        for account in &changes.removed {
            self.push(after, account, Self::MEMBER, false);
        }
        if after.owner != *owner_before {
            self.push(after, owner_before, Self::OWNER, false);
            self.push(after, &after.owner, Self::OWNER, true);
        }
    }

    fn push(&mut self, after: &Session, account: &'a Account, role: &'a str, gained: bool) {
        self.session_ids.push(after.id.uuid());
        self.versions.push(after.version.get());
        self.accounts.push(account.as_str());
        self.roles.push(role);
        self.gained.push(gained);
    }
}

/// Rows of `session_title`.
#[derive(Default)]
pub(super) struct TitleColumns {
    pub(super) session_ids: Vec<Uuid>,
    pub(super) buins: Vec<i64>,
    pub(super) folded: Vec<String>,
}

impl TitleColumns {
    pub(super) fn push(&mut self, session: &Session) {
        self.session_ids.push(session.id.uuid());
        self.buins.push(session.buin.get());
        self.folded.push(titles::fold(session.title.as_str()));
    }
}

/// Rows of `idempotency`.
#[derive(Default)]
pub(super) struct KeyColumns<'a> {
    pub(super) buins: Vec<i64>,
    pub(super) app_ids: Vec<&'a str>,
    pub(super) names: Vec<&'a str>,
    pub(super) digests: Vec<&'a [u8]>,
    pub(super) session_ids: Vec<Uuid>,
    pub(super) versions: Vec<i64>,
    pub(super) expire_at: Vec<DateTime<Utc>>,
}

impl<'a> KeyColumns<'a> {
    pub(super) fn push(&mut self, after: &Session, provenance: &Provenance<'a>) {
        let Provenance { app_id, key: Some(key), .. } = provenance else { return };
        self.buins.push(after.buin.get());
        self.app_ids.push(app_id.as_str());
        self.names.push(key.name());
        self.digests.push(key.digest());
        self.session_ids.push(after.id.uuid());
        self.versions.push(after.version.get());
        self.expire_at.push(after.updated_at + IdempotencyKey::RETENTION);
    }
}

/// A map of JSON values can always be written as JSON.
fn to_json(map: &Map<String, Value>) -> String {
    serde_json::to_string(map).unwrap_or_default()
}

/// The configuration limits the number of members far below this maximum.
fn to_i32(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
