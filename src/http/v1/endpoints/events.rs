//! `GET /v1/sessions/{sessionId}/events`: the history, version by version.

use std::fmt;

use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::domain::{Event, SessionId, Version};
use crate::http::shared::permission::CanRead;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::min_cursor::MinCursor;
use crate::http::v1::extract::page;
use crate::http::v1::extract::path::SessionPath;
use crate::http::v1::extract::query::Query;
use crate::http::v1::extract::text::{AccountText, ReasonText};
use crate::http::v1::problem::{Code, ErrorCodes, ErrorResponses, Problem};
use crate::http::v1::render::event_view::{EventChanges, EventKindSchema};
use crate::http::v1::render::json_text::JsonText;
use crate::http::v1::render::view::rfc3339;
use crate::service::{HistoryPage, InvalidCursor, Sessions};

type EventsRequest = Authorized<CanRead, (SessionPath, Query<EventsQuery>, MinCursor)>;

/// The query: a page of the history, and its order.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// The maximum number of events in the page.
    #[param(minimum = 1, maximum = 200, default = 50, example = 50)]
    limit: Option<i64>,
    /// `nextCursor` of the previous page, of the same session in the same order.
    #[param(pattern = "^[A-Za-z0-9_-]+$", max_length = 128)]
    cursor: Option<String>,
    /// `asc`: the oldest first. `desc`: the newest first.
    #[serde(default)]
    #[param(inline, example = "desc")]
    order: EventOrder,
}

/// The order of a history.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EventOrder {
    /// The oldest first.
    #[default]
    Asc,
    /// The newest first.
    Desc,
}

/// The start of a page: after this version of this session, in this order. The text is opaque to
/// clients.
struct EventCursor(EventOrder, SessionId, Version);

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.0 {
            EventOrder::Asc => "asc",
            EventOrder::Desc => "desc",
        };
        let text = format!("{order}:{}:{}", self.1.uuid().as_simple(), self.2);
        f.write_str(&URL_SAFE_NO_PAD.encode(text))
    }
}

impl EventCursor {
    fn read(text: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (order, position) = text.split_once(':')?;
        let (id, version) = position.split_once(':')?;
        let order = match order {
            "asc" => EventOrder::Asc,
            "desc" => EventOrder::Desc,
            _ => return None,
        };
        Some(Self(order, id.parse().ok()?, Version::new(version.parse().ok()?).ok()?))
    }
}

impl TryFrom<(SessionId, EventsQuery)> for HistoryPage {
    type Error = Problem;

    fn try_from((id, query): (SessionId, EventsQuery)) -> Result<Self, Problem> {
        let invalid = |reason| Problem::for_field(Code::InvalidParameter, "cursor", reason);
        let limit = page::limit(query.limit)?;
        let after = match query.cursor.as_deref().map(EventCursor::read) {
            None => None,
            Some(None) => {
                return Err(page::invalid_cursor(
                    InvalidCursor::Malformed,
                    query.cursor.as_deref(),
                ));
            }
            Some(Some(EventCursor(_, of, _))) if of != id => {
                return Err(invalid("belongs to another session"));
            }
            Some(Some(EventCursor(order, ..))) if order != query.order => {
                return Err(invalid("belongs to the other order"));
            }
            Some(Some(EventCursor(_, _, version))) => Some(version),
        };
        Ok(Self { after, newest_first: query.order == EventOrder::Desc, limit })
    }
}

/// A part of a session's history.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventPage, example = json!({ "items": [sample()], "nextCursor": null }))]
struct EventPage<'a> {
    /// The events, in the requested order. A page with fewer than `limit` is not always the last
    /// one.
    #[schema(max_items = 200)]
    items: Vec<EventView<'a>>,
    /// The `cursor` of the next page; `null` on the last page.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// An example of an event, for the description.
fn sample() -> Value {
    serde_json::json!({
        "version": 2, "kind": "updated", "operator": "alice", "appId": "yd0123", "reason": null,
        "createdAt": "2024-06-10T06:13:30.000000Z",
        "changes": { "title": "Release 2.0", "addMember": ["dave"], "delMember": ["carol"] }
    })
}

/// The event that made one version of a session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Event, example = json!(sample()))]
struct EventView<'a> {
    /// The version that the event made.
    #[schema(minimum = 1)]
    version: i64,
    #[schema(value_type = EventKindSchema)]
    kind: &'static str,
    /// The account that acted.
    #[schema(value_type = AccountText)]
    operator: &'a str,
    /// The app that acted for the operator.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$")]
    app_id: &'a str,
    /// The reason of the change, if the request gave one.
    #[schema(value_type = Option<ReasonText>, required = true)]
    reason: Option<&'a str>,
    /// The time of the event, in UTC with microseconds.
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    changes: EventChanges<'a>,
}

impl<'a> From<&'a Event> for EventView<'a> {
    fn from(event: &'a Event) -> Self {
        Self {
            version: event.version.get(),
            kind: event.kind.name(),
            operator: event.operator.as_str(),
            app_id: event.app_id.as_str(),
            reason: event.reason.as_ref().map(|reason| reason.as_str()),
            created_at: rfc3339(event.at),
            changes: event.into(),
        }
    }
}

/// The error codes of the endpoint, beside those of the request.
struct EventsErrors;

impl ErrorCodes for EventsErrors {
    fn codes() -> Vec<Code> {
        vec![Code::SessionNotFound]
    }
}

/// The history of a session
///
/// Every version with its operator, app, reason, time and changes. A client that applies the
/// changes from the first version on gets the session at every version.
///
/// A page is shorter than `limit` if its changes would exceed 1 MiB. It has at least one event. Read
/// pages until `nextCursor` is `null`.
#[utoipa::path(
    get,
    path = "/v1/sessions/{sessionId}/events",
    operation_id = "listEvents",
    tag = "history",
    params(EventsRequest),
    responses((status = 200, description = "A page", body = EventPage), ErrorResponses<(EventsRequest, EventsErrors)>)
)]
pub(crate) async fn list(
    sessions: web::Data<Sessions>,
    request: EventsRequest,
) -> Result<HttpResponse, Problem> {
    let (SessionPath(id), Query(query), MinCursor(cursor)) = request.parts;
    let order = query.order;
    let page = HistoryPage::try_from((id, query))?;
    let caller = request.caller;
    let read = async move |sessions: Sessions| {
        let events = || sessions.events(&caller, id, page).boxed();
        let found = sessions.read_after(&caller, cursor, events, |_, _| true).await;
        let found = found.map_err(MinCursor::problem)?;
        let next_cursor = found.events.last().filter(|_| found.has_more);
        let next_cursor = next_cursor.map(|last| EventCursor(order, id, last.version).to_string());
        let items = found.events.iter().map(EventView::from).collect();
        JsonText::new(&EventPage { items, next_cursor })
    };
    Ok(sessions.read_in_background(read).await?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "8ad595f373b34b5690aff336f9222fc5";

    fn read(cursor: &str, order: EventOrder) -> Result<Option<i64>, &'static str> {
        let query = EventsQuery { limit: None, cursor: Some(cursor.to_owned()), order };
        let page = HistoryPage::try_from((ID.parse().unwrap(), query));
        page.map(|page| page.after.map(Version::get)).map_err(|problem| problem.code().name())
    }

    #[test]
    fn cursor_is_bound_to_session_and_order() {
        let version = Version::new(i64::MAX).unwrap();
        let max_length =
            EventCursor(EventOrder::Desc, SessionId::new(uuid::Uuid::max()), version).to_string();
        assert!(max_length.len() <= 128, "{max_length}");
        assert_eq!(read(&max_length, EventOrder::Desc), Err("invalid_parameter"));
        let version = Version::new(7).unwrap();
        let cursor = EventCursor(EventOrder::Desc, ID.parse().unwrap(), version).to_string();
        assert_eq!(read(&cursor, EventOrder::Desc), Ok(Some(7)));
        assert_eq!(read(&cursor, EventOrder::Asc), Err("invalid_parameter"));
    }

    #[test]
    fn malformed_cursor_is_refused() {
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        assert_eq!(read(&encoded(&format!("asc:{ID}:7")), EventOrder::Asc), Ok(Some(7)));
        for text in ["asc:ID:0", "asc:ID:", "asc:ID", "asc:7", "asc", ":ID:7", "up:ID:7", "\u{0}"] {
            let text = text.replace("ID", ID);
            assert_eq!(read(&encoded(&text), EventOrder::Asc), Err("invalid_parameter"), "{text}");
        }
        for cursor in ["", "asc:7", "=", "YXNjOjc="] {
            assert_eq!(read(cursor, EventOrder::Asc), Err("invalid_parameter"), "{cursor}");
        }
    }
}
