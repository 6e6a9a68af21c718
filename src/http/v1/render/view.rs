//! The JSON of a session, the same in every response of this API.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::domain::{Account, Session, SessionId};
use crate::http::shared::render::{as_text, as_texts};
use crate::http::v1::extract::object::AttributesJson;
use crate::http::v1::extract::text::{AccountText, TitleText};
use crate::service::WriteOutcome;

/// An example of a session, for the description.
pub(crate) fn sample() -> Value {
    serde_json::json!({
        "sessionId": "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}",
        "title": "Release",
        "owner": "alice",
        "version": 2,
        "type": "multi",
        "member": ["alice", "bob", "carol"],
        "activeTime": 1_718_000_010,
        "createdAt": "2024-06-10T06:13:20.000000Z",
        "updatedAt": "2024-06-10T06:13:30.000000Z",
        "state": "active",
        "attributes": { "project": "muster" },
        "memberCount": 3
    })
}

/// A session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Session, example = json!(sample()))]
pub(crate) struct SessionView<'a> {
    /// A UUID, upper case, in braces.
    #[schema(
        value_type = String, example = "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}",
        pattern = r"^\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}$"
    )]
    #[serde(serialize_with = "as_text")]
    session_id: SessionId,
    #[schema(value_type = TitleText)]
    title: &'a str,
    /// The member that may remove others, hand the session over and dissolve it.
    #[schema(value_type = AccountText)]
    owner: &'a str,
    /// The version: 1 when the session is created, plus 1 for each change.
    #[schema(minimum = 1)]
    version: i64,
    r#type: SessionType,
    /// All members, owner included: the creator, then the others as listed, later ones at the end.
    #[schema(value_type = Vec<AccountText>)]
    #[serde(serialize_with = "as_texts")]
    member: &'a [Account],
    /// The time of the last change, as a Unix time in seconds.
    active_time: i64,
    /// The time of creation, in UTC with microseconds.
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    /// The time of the last change, in UTC with microseconds.
    #[schema(value_type = String, format = DateTime)]
    updated_at: String,
    state: SessionState,
    /// Data of the apps.
    #[schema(value_type = AttributesJson)]
    attributes: &'a Map<String, Value>,
    /// The number of members.
    #[schema(minimum = 1)]
    member_count: usize,
}

/// The result of a write: the session, or only its version for an app that may not read it.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum WrittenView<'a> {
    Session(SessionView<'a>),
    #[serde(rename_all = "camelCase")]
    Version {
        #[serde(serialize_with = "as_text")]
        session_id: SessionId,
        version: i64,
    },
}

impl<'a> From<&'a WriteOutcome> for WrittenView<'a> {
    fn from(outcome: &'a WriteOutcome) -> Self {
        match &outcome.session {
            Some(session) => Self::Session(SessionView::from(&***session)),
            None => {
                Self::Version { session_id: outcome.session_id, version: outcome.version.get() }
            }
        }
    }
}

/// The type of a session, always `multi`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SessionType, examples("multi"))]
pub(crate) enum SessionType {
    /// A session with any number of members.
    #[default]
    Multi,
}

/// Whether a session can be changed.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SessionState, examples("active"))]
pub(crate) enum SessionState {
    /// The session can be changed.
    Active,
    /// The session can be read, but not changed.
    Dissolved,
}

impl<'a> From<&'a Session> for SessionView<'a> {
    fn from(session: &'a Session) -> Self {
        Self {
            session_id: session.id,
            title: session.title.as_str(),
            owner: session.owner.as_str(),
            version: session.version.get(),
            r#type: SessionType::Multi,
            member: &session.members,
            active_time: session.updated_at.timestamp(),
            created_at: rfc3339(session.created_at),
            updated_at: rfc3339(session.updated_at),
            state: session.state.into(),
            attributes: session.attributes.as_map(),
            member_count: session.members.len(),
        }
    }
}

impl From<crate::domain::State> for SessionState {
    fn from(state: crate::domain::State) -> Self {
        match state {
            crate::domain::State::Active => Self::Active,
            crate::domain::State::Dissolved => Self::Dissolved,
        }
    }
}

/// A time in the form of every response: RFC 3339, UTC, with microseconds.
pub(crate) fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}
