//! The fields of requests to consumers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::{Array, ArrayBuilder};

use crate::domain::{ConsumerLimits, ConsumerMember, EventKind, FeedFilter, parse_time, quoted};
use crate::http::v1::endpoints::feed::parse;
use crate::http::v1::extract::parameter::text;
use crate::http::v1::extract::text::AccountInput;
use crate::http::v1::problem::{Code, Problem};
use crate::http::v1::render::event_view::EventKindSchema;
use crate::service::{FeedCursor, FeedStart};

/// Selects changes: all conditions must hold. Without a condition every change is selected.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = ConsumerFilterInput, example = json!({ "member": "alice", "kind": "updated" }))]
pub(super) struct FilterInput {
    /// Only changes of sessions in which this account is a member before or after the change.
    member: Option<AccountInput>,
    /// Only changes of sessions of which this account is the owner before or after the change.
    owner: Option<AccountInput>,
    /// Only changes of this session: a UUID.
    #[schema(
        pattern = r"^(\{[0-9A-Fa-f-]{32,36}\}|[0-9A-Fa-f-]{32,36})$",
        example = "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}"
    )]
    session_id: Option<String>,
    /// Only changes of this kind.
    #[schema(value_type = Option<EventKindSchema>, example = "updated")]
    kind: Option<String>,
    /// Only changes that this app made.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$", example = "yd0123")]
    app: Option<String>,
}

/// The filter of a consumer. It has the conditions that are set.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConsumerFilter, example = json!({ "member": "alice", "kind": "updated" }))]
pub(super) struct FilterView {
    /// The account that is a member before or after the change.
    #[schema(nullable = false, min_length = 1, max_length = 64, example = "alice")]
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<String>,
    /// The account that is the owner before or after the change.
    #[schema(nullable = false, min_length = 1, max_length = 64, example = "alice")]
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// The session: a UUID, upper case, in braces.
    #[schema(nullable = false, example = "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}")]
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    #[schema(value_type = EventKindSchema, required = false, example = "updated")]
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    /// The app that made the change.
    #[schema(nullable = false, min_length = 1, max_length = 64, example = "yd0123")]
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
}

impl From<&FeedFilter> for FilterView {
    fn from(filter: &FeedFilter) -> Self {
        Self {
            member: filter.member.as_ref().map(|account| account.as_str().to_owned()),
            owner: filter.owner.as_ref().map(|account| account.as_str().to_owned()),
            session_id: filter.session.map(|id| id.to_string()),
            kind: filter.kind.map(EventKind::name),
            app: filter.app.as_ref().map(ToString::to_string),
        }
    }
}

impl TryFrom<FilterInput> for FeedFilter {
    type Error = Problem;

    fn try_from(input: FilterInput) -> Result<Self, Problem> {
        const CODE: Code = Code::InvalidField;
        let account =
            |field, text: Option<AccountInput>| text.map(|text| text.read(CODE, field)).transpose();
        let session = input.session_id.map(|text| text.parse());
        let kind = input.kind.as_deref().map(|text| parse::kind(CODE, "filter.kind", text));
        let app = input.app.map(|text| text.parse());
        let invalid = |field: &'static str| move |error| Problem::invalid(CODE, field, &error);
        Ok(Self {
            member: account("filter.member", input.member)?,
            owner: account("filter.owner", input.owner)?,
            session: session.transpose().map_err(invalid("filter.sessionId"))?,
            kind: kind.transpose()?,
            app: app.transpose().map_err(invalid("filter.app"))?,
        })
    }
}

/// The start in the field `start`.
pub(super) fn start(text: &str) -> Result<FeedStart, Problem> {
    if text == "0" {
        return Ok(FeedStart::Beginning);
    }
    let invalid = |reason| Problem::for_field(Code::InvalidField, "start", reason);
    match FeedCursor::decode(text) {
        Ok(cursor) if cursor.snapshot.is_some() => {
            Err(invalid("must not be a cursor of a snapshot before its end".to_owned()))
        }
        Ok(cursor) => Ok(FeedStart::Cursor(cursor)),
        Err(_) => parse_time(text).map(FeedStart::Time).map_err(|_| {
            invalid(format!(
                "must be a cursor, 0 or a time such as 2024-06-10T06:13:20Z, got {}",
                quoted(text)
            ))
        }),
    }
}

/// The member in the field `member`.
pub(super) fn member(text: &str) -> Result<ConsumerMember, Problem> {
    text.parse().map_err(|error| Problem::invalid(Code::InvalidField, "member", &error))
}

/// The cursors in the field `cursors`.
pub(super) fn cursors(list: &[String]) -> Result<Vec<FeedCursor>, Problem> {
    const MAX: usize = ConsumerLimits::MAX_ACTIVE;
    let got = list.len();
    if got > MAX {
        let reason = format!("at most {MAX}, got {got}");
        return Err(Problem::for_field(Code::InvalidField, "cursors", reason).with_limit(MAX, got));
    }
    let read = |(index, text): (usize, &String)| {
        FeedCursor::decode(text).map_err(|_| {
            let reason = format!("must be the cursor of an event, got {}", quoted(text));
            Problem::for_field(Code::InvalidField, format!("cursors[{index}]"), reason)
        })
    };
    list.iter().enumerate().map(read).collect()
}

/// The description of a list of cursors.
pub(super) fn cursor_list() -> Array {
    ArrayBuilder::new()
        .items(text(CURSOR_PATTERN, CURSOR_EXAMPLE))
        .max_items(Some(ConsumerLimits::MAX_ACTIVE))
        .description(Some("The `cursor` of each event."))
        .examples([serde_json::json!([CURSOR_EXAMPLE])])
        .build()
}

const CURSOR_PATTERN: &str = "^[A-Za-z0-9_-]{1,128}$";
const CURSOR_EXAMPLE: &str = "AQECAwQFBgcIAAAAAAAAAAcBAgME";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_bounded_and_named() {
        let texts = |count: usize| vec!["x".to_owned(); count];
        for (list, text) in [
            (texts(1_001), "invalid_field cursors: at most 1000, got 1001"),
            (texts(1), "invalid_field cursors[0]: must be the cursor of an event, got \"x\""),
        ] {
            assert_eq!(cursors(&list).unwrap_err().to_string(), text);
        }
    }
}
