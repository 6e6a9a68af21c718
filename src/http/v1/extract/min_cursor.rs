//! `Muster-Min-Cursor`: a position in the feed that the reader has seen. No list may lack a change up to
//! it.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;
use utoipa::openapi::path::Parameter;

use super::header;
use super::parameter::{in_header, text};
use super::part::RequestPart;
use crate::http::v1::problem::{Code, ErrorCodes, Problem};
use crate::service::{Error, FeedCursor};

const HEADER: HeaderName = HeaderName::from_static("muster-min-cursor");
/// The name in problems and in the description.
const NAME: &str = "Muster-Min-Cursor";

/// The position up to which the reader expects every change, if the request names one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MinCursor(pub(crate) Option<FeedCursor>);

impl MinCursor {
    /// The problem of a read with the cursor of this header, which is not a parameter.
    pub(crate) fn problem(error: Error) -> Problem {
        Problem::from(error).rename_field(&[("after", NAME)])
    }
}

impl ErrorCodes for MinCursor {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidHeader, Code::CursorExpired, Code::CursorNotReached]
    }
}

impl RequestPart for MinCursor {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        let Some(text) = header::single(request, HEADER, NAME)? else { return Ok(Self(None)) };
        Ok(Self(Some(header::cursor(NAME, &text, "a cursor of GET /v1/events")?)))
    }

    fn parameters() -> Vec<Parameter> {
        let description = "A cursor of `GET /v1/events` that the caller has seen. The response \
                           includes every change up to it. If the server does not have these \
                           changes within a second, the problem is `cursor_not_reached`.";
        let cursor = text("^[A-Za-z0-9_-]{28,66}$", "AQECAwQFBgcIAAAAAAAAAAcBAgME");
        vec![in_header(NAME, description, cursor)]
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn header_is_one_cursor() {
        let read = |values: &[&str]| {
            let add = |request: TestRequest, value: &&str| request.append_header((HEADER, *value));
            let request = values.iter().fold(TestRequest::default(), add).to_http_request();
            let read = MinCursor::read(&request, b"");
            read.map(|MinCursor(cursor)| cursor.is_some()).map_err(|problem| problem.to_string())
        };
        let cursor = "AQECAwQFBgcIAAAAAAAAAAcBAgME";
        assert_eq!(read(&[]), Ok(false));
        assert_eq!(read(&[cursor]), Ok(true));
        for (values, reason) in [
            (&["0"][..], "must be a cursor of GET /v1/events, got \"0\""),
            (&[""], "must be a cursor of GET /v1/events, got \"\""),
            (&[cursor, cursor], "appears more than once"),
        ] {
            let expected = format!("invalid_header Muster-Min-Cursor: {reason}");
            assert_eq!(read(values), Err(expected), "{values:?}");
        }
    }
}
