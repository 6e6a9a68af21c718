//! The JSON of a change in the feed, the same bytes in pages and in streams.
//!
//! A change of a stream is rendered once for all of its readers ([`render_tail`]). Only the first three
//! fields differ between filters, and [`write_event`] adds them. A page has a reader of its own
//! ([`write_item`]).

use std::io::Write as _;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::{FeedEvent, FeedSeq, Session, SessionId};
use crate::http::shared::render::as_text;
use crate::http::v1::extract::text::{AccountText, ReasonText};
use crate::http::v1::render::event_view::{EventChanges, EventKindSchema};
use crate::http::v1::render::view::{SessionView, rfc3339};
use crate::service::{FeedCursor, FeedItem};

/// An example of a change, for the description.
pub(in crate::http::v1) fn sample() -> Value {
    serde_json::json!({
        "seq": 7, "prevSeq": 5, "cursor": "AQECAwQFBgcIAAAAAAAAAAcBAgME", "kind": "updated",
        "sessionId": "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}", "version": 2, "operator": "alice",
        "app": "yd0123", "reason": null, "at": "2024-06-10T06:13:30.000000Z",
        "changes": { "title": "Release 2.0", "addMember": ["dave"], "delMember": ["carol"] }
    })
}

/// A change of a session, with its position in the feed of the enterprise.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FeedEvent, example = json!(sample()))]
pub(crate) struct FeedEventView<'a> {
    /// The number of the change among those of the enterprise, from 1 without gaps.
    #[schema(value_type = i64, minimum = 1, required = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    /// The number of the previous change that matches the same filter; 0 if there is no earlier
    /// one. A reader that has not seen it lacks a change.
    #[schema(value_type = i64, minimum = 0, required = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_seq: Option<i64>,
    /// The position after this change, for `after`.
    #[schema(
        value_type = String, required = true, pattern = "^[A-Za-z0-9_-]+$", max_length = 128
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    #[schema(value_type = EventKindSchema)]
    kind: &'static str,
    /// The session: a UUID, upper case, in braces.
    #[schema(value_type = String, pattern = r"^\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}$")]
    #[serde(serialize_with = "as_text")]
    session_id: SessionId,
    /// The version that the change made.
    #[schema(minimum = 1)]
    version: i64,
    /// The account that acted.
    #[schema(value_type = AccountText)]
    operator: &'a str,
    /// The app that acted for the operator.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$")]
    app: &'a str,
    /// The reason of the change, if the request gave one.
    #[schema(value_type = Option<ReasonText>, required = true)]
    reason: Option<&'a str>,
    /// The time of the change, in UTC with microseconds.
    #[schema(value_type = String, format = DateTime)]
    at: String,
    changes: EventChanges<'a>,
    /// The session after the change, with `include=session`.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionView<'a>>,
}

/// The JSON object of a change without the fields of [`write_event`].
pub(crate) fn render_tail(change: &FeedEvent, session: Option<&Session>) -> Vec<u8> {
    // Text, numbers and lists can always be written as JSON.
    serde_json::to_vec(&tail(change, session)).unwrap_or_default()
}

fn tail<'a>(change: &'a FeedEvent, session: Option<&'a Session>) -> FeedEventView<'a> {
    let event = &change.event;
    FeedEventView {
        seq: None,
        prev_seq: None,
        cursor: None,
        kind: event.kind.name(),
        session_id: change.session_id,
        version: event.version.get(),
        operator: event.operator.as_str(),
        app: event.app_id.as_str(),
        reason: event.reason.as_ref().map(|reason| reason.as_str()),
        at: rfc3339(event.at),
        changes: event.into(),
        session: session.map(SessionView::from),
    }
}

/// Writes the JSON object of a change that is rendered for one reader.
pub(crate) fn write_item(out: &mut Vec<u8>, item: &FeedItem) {
    write_head(out, item.event.seq, item.prev_seq, &item.cursor);
    let start = out.len();
    // Text, numbers and lists can always be written as JSON, and memory takes every write.
    let _ = serde_json::to_writer(&mut *out, &tail(&item.event, item.session.as_ref()));
    // The object has begun already.
    if let Some(brace) = out.get_mut(start) {
        *brace = b',';
    }
}

/// Writes the JSON object of a change: the fields that depend on the filter, and then those of
/// [`render_tail`].
pub(crate) fn write_event(
    out: &mut Vec<u8>,
    seq: FeedSeq,
    prev_seq: FeedSeq,
    cursor: &FeedCursor,
    tail: &[u8],
) {
    write_head(out, seq, prev_seq, cursor);
    out.push(b',');
    out.extend_from_slice(tail.strip_prefix(b"{").unwrap_or_default());
}

/// Writes the fields that depend on the filter. More fields follow.
fn write_head(out: &mut Vec<u8>, seq: FeedSeq, prev_seq: FeedSeq, cursor: &FeedCursor) {
    let (seq, prev_seq, cursor) = (seq.get(), prev_seq.get(), cursor.encode());
    // A write into memory cannot fail.
    let _ = write!(out, r#"{{"seq":{seq},"prevSeq":{prev_seq},"cursor":"{cursor}""#);
}
