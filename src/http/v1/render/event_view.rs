//! The JSON of the changes of a version, the same in a history and in the feed.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::view::SessionState;
use crate::domain::{Account, Event, EventKind};
use crate::http::shared::render::as_texts;
use crate::http::v1::extract::object::AttributesJson;
use crate::http::v1::extract::text::{AccountText, TitleText};

/// The changes of a version: the fields, members and attributes that differ from the previous
/// version. The first version has all of them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventChanges, example = json!({
    "title": "Release 2.0", "addMember": ["dave"], "delMember": ["carol"],
    "attributes": { "project": null }
}))]
pub(crate) struct EventChanges<'a> {
    /// The new title.
    #[schema(value_type = TitleText, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    /// The new owner.
    #[schema(value_type = AccountText, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    /// All members, if additions at the end and removals do not give their order.
    #[schema(value_type = Vec<AccountText>, required = false, example = json!(["alice", "bob"]))]
    #[serde(serialize_with = "as_list", skip_serializing_if = "Option::is_none")]
    member: Option<&'a [Account]>,
    /// Accounts that were added, at the end of the list.
    #[schema(value_type = Vec<AccountText>, required = false)]
    #[serde(serialize_with = "as_texts", skip_serializing_if = "<[_]>::is_empty")]
    add_member: &'a [Account],
    /// Members that were removed.
    #[schema(value_type = Vec<AccountText>, required = false)]
    #[serde(serialize_with = "as_texts", skip_serializing_if = "<[_]>::is_empty")]
    del_member: &'a [Account],
    /// A JSON merge patch (RFC 7396) of the attributes.
    #[schema(value_type = AttributesJson, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<&'a Map<String, Value>>,
    /// The new state.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<SessionState>,
}

fn as_list<S: serde::Serializer>(
    accounts: &Option<&[Account]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    as_texts(&accounts.unwrap_or_default(), serializer)
}

/// The kinds of events, in the description.
pub(crate) struct EventKindSchema;

impl utoipa::PartialSchema for EventKindSchema {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("The kind of the change."))
            .enum_values(Some(EventKind::ALL.map(EventKind::name)))
            .examples([EventKind::Updated.name()])
            .into()
    }
}

impl ToSchema for EventKindSchema {
    fn name() -> std::borrow::Cow<'static, str> {
        "EventKind".into()
    }
}

impl<'a> From<&'a Event> for EventChanges<'a> {
    fn from(event: &'a Event) -> Self {
        let changes = &event.changes;
        Self {
            title: changes.title.as_ref().map(|title| title.as_str()),
            owner: changes.owner.as_ref().map(Account::as_str),
            member: changes.members.as_deref(),
            add_member: &changes.added,
            del_member: &changes.removed,
            attributes: changes.attributes.as_ref().map(|patch| patch.as_map()),
            state: event.kind.state().map(SessionState::from),
        }
    }
}
