//! Headers that a request has at most once.

use std::borrow::Cow;
use std::fmt::Display;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;

use crate::domain::quoted;
use crate::http::v1::problem::{Code, Problem};
use crate::service::FeedCursor;

/// The text of a header; `None` if the request does not have the header. Bytes that are not UTF-8 are
/// replaced, so that a problem can show the text. `name` is the name in problems.
///
/// # Errors
/// If the header appears more than once.
pub(super) fn single<'r>(
    request: &'r HttpRequest,
    header: HeaderName,
    name: &str,
) -> Result<Option<Cow<'r, str>>, Problem> {
    let mut values = request.headers().get_all(header);
    let Some(value) = values.next() else { return Ok(None) };
    match values.next() {
        None => Ok(Some(String::from_utf8_lossy(value.as_bytes()))),
        Some(_) => Err(invalid(name, "appears more than once")),
    }
}

/// The cursor of the feed that a header has as its text. `expected` describes it in the problem.
///
/// # Errors
/// If the text is no cursor.
pub(super) fn cursor(name: &str, text: &str, expected: &str) -> Result<FeedCursor, Problem> {
    FeedCursor::decode(text)
        .map_err(|_| invalid(name, format!("must be {expected}, got {}", quoted(text))))
}

/// The problem of a header with an invalid value.
pub(super) fn invalid(name: &str, reason: impl Display) -> Problem {
    Problem::for_field(Code::InvalidHeader, name, reason)
}
