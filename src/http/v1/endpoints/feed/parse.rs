//! Values of requests to the feed, from text.

use crate::domain::{EventKind, parse_time, quoted};
use crate::http::v1::problem::{Code, Problem};
use crate::service::{FeedCursor, FeedStart, InvalidFeedCursor};

/// Reads the parameter `after`.
pub(super) fn start(text: &str) -> Result<FeedStart, Problem> {
    if text == "0" {
        return Ok(FeedStart::Beginning);
    }
    if let Ok(cursor) = FeedCursor::decode(text) {
        return Ok(FeedStart::Cursor(cursor));
    }
    parse_time(text).map(FeedStart::Time).map_err(|_| {
        let reason = format!("{}, got {}", InvalidFeedCursor, quoted(text));
        Problem::for_field(Code::InvalidParameter, "after", reason)
    })
}

/// Reads a kind of changes. `code` and `field` are those of the problem.
pub(in crate::http::v1::endpoints) fn kind(
    code: Code,
    field: &str,
    text: &str,
) -> Result<EventKind, Problem> {
    text.parse().map_err(|_| {
        let names = EventKind::ALL.map(EventKind::name).join(", ");
        let reason = format!("must be one of {names}, got {}", quoted(text));
        Problem::for_field(code, field, reason)
    })
}
