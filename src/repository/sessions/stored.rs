//! Stored sessions and their changes.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::types::Json;
use uuid::Uuid;

use crate::domain::{
    Account, Attributes, AttributesPatch, Buin, Changes, Session, SessionId, State, Title, Version,
};
use crate::repository::Error;
use crate::repository::error::corrupt;

/// A session as the database holds it now, or held it. The column names are those of the
/// statements in [`super::find`] and of snapshots.
#[derive(sqlx::FromRow)]
pub(in crate::repository) struct SessionRow {
    pub(in crate::repository) session_id: Uuid,
    pub(in crate::repository) buin: i64,
    pub(in crate::repository) title: String,
    pub(in crate::repository) owner: String,
    pub(in crate::repository) version: i64,
    pub(in crate::repository) state: String,
    #[sqlx(rename = "attributes: Json<Map<String, Value>>")]
    pub(in crate::repository) attributes: Json<Map<String, Value>>,
    #[sqlx(rename = "members!")]
    pub(in crate::repository) members: Vec<String>,
    pub(in crate::repository) created_at: DateTime<Utc>,
    pub(in crate::repository) updated_at: DateTime<Utc>,
}

impl SessionRow {
    /// The session of a row of `table`, which errors name.
    pub(in crate::repository) fn into_session(self, table: &'static str) -> Result<Session, Error> {
        Ok(Session {
            id: SessionId::new(self.session_id),
            buin: Buin::new(self.buin).map_err(corrupt(table, "buin", self.buin))?,
            title: Title::new(&self.title).map_err(corrupt(table, "title", &self.title))?,
            owner: account(table, "owner", &self.owner)?,
            version: version(table, self.version)?,
            state: State::ALL
                .into_iter()
                .find(|state| state.name() == self.state)
                .ok_or_else(|| corrupt(table, "state", &self.state)("no such state"))?,
            members: self
                .members
                .iter()
                .map(|text| account(table, "members", text))
                .collect::<Result<_, _>>()?,
            attributes: attributes(table, self.attributes.0)?,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

impl TryFrom<SessionRow> for Session {
    type Error = Error;

    fn try_from(row: SessionRow) -> Result<Self, Error> {
        row.into_session("session")
    }
}

pub(in crate::repository) fn account(
    table: &'static str,
    column: &'static str,
    text: &str,
) -> Result<Account, Error> {
    Account::new(text).map_err(|error| corrupt(table, column, text)(error))
}

pub(in crate::repository) fn version(table: &'static str, number: i64) -> Result<Version, Error> {
    Version::new(number).map_err(corrupt(table, "version", number))
}

fn attributes(table: &'static str, map: Map<String, Value>) -> Result<Attributes, Error> {
    if map.is_empty() {
        return Ok(Attributes::default());
    }
    Attributes::new(&AttributesPatch::new(map)).map_err(corrupt(table, "attributes", ""))
}

/// The changes of an event, with the field names of the wire protocol. Unchanged fields are left
/// out.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::repository) struct StoredChanges<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<Vec<Cow<'a, str>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    add_member: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    del_member: Vec<Cow<'a, str>>,
}

impl<'a> StoredChanges<'a> {
    pub(super) fn from_created(session: &'a Session) -> Self {
        Self {
            title: Some(session.title.as_str().into()),
            owner: Some(session.owner.as_str().into()),
            member: Some(texts(&session.members)),
            ..Self::default()
        }
    }

    /// The changes, together with the patch of the attributes, which has a separate column.
    pub(in crate::repository) fn into_changes(
        self,
        patch: Option<Map<String, Value>>,
    ) -> Result<Changes, Error> {
        let accounts = |texts: Vec<Cow<'_, str>>| -> Result<Vec<Account>, Error> {
            texts.iter().map(|text| account("session_event", "changes", text)).collect()
        };
        let title = self.title.as_deref().map(|text| {
            Title::new(text).map_err(|error| corrupt("session_event", "changes", text)(error))
        });
        let owner = self.owner.as_deref().map(|text| account("session_event", "changes", text));
        Ok(Changes {
            title: title.transpose()?,
            owner: owner.transpose()?,
            members: self.member.map(accounts).transpose()?,
            added: accounts(self.add_member)?,
            removed: accounts(self.del_member)?,
            attributes: patch.map(AttributesPatch::new),
        })
    }

    /// All members, if the event lists them; the members who joined; the members who left.
    pub(in crate::repository) fn into_members(self) -> [Vec<String>; 3] {
        let owned = |texts: Vec<Cow<'_, str>>| texts.into_iter().map(Cow::into_owned).collect();
        [self.member.unwrap_or_default(), self.add_member, self.del_member].map(owned)
    }
}

impl<'a> From<&'a Changes> for StoredChanges<'a> {
    fn from(changes: &'a Changes) -> Self {
        Self {
            title: changes.title.as_ref().map(|title| title.as_str().into()),
            owner: changes.owner.as_ref().map(|owner| owner.as_str().into()),
            member: changes.members.as_deref().map(texts),
            add_member: texts(&changes.added),
            del_member: texts(&changes.removed),
        }
    }
}

fn texts(accounts: &[Account]) -> Vec<Cow<'_, str>> {
    accounts.iter().map(|account| account.as_str().into()).collect()
}
