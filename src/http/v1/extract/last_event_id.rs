//! `Last-Event-ID`: the position up to which the reader of a stream has everything.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;
use utoipa::openapi::path::Parameter;

use super::header;
use super::parameter::{in_header, text};
use super::part::RequestPart;
use crate::http::v1::problem::{Code, ErrorCodes, Problem};
use crate::service::FeedCursor;

const HEADER: HeaderName = HeaderName::from_static("last-event-id");
/// The name in problems and in the description.
const NAME: &str = "Last-Event-ID";

/// The last id that the reader of a stream has seen, if the request names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastEventId(pub(crate) Option<FeedCursor>);

impl ErrorCodes for LastEventId {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidHeader]
    }
}

impl RequestPart for LastEventId {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        let Some(text) = header::single(request, HEADER, NAME)? else { return Ok(Self(None)) };
        // A browser sends an empty id if a stream had none.
        if text.is_empty() {
            return Ok(Self(None));
        }
        Ok(Self(Some(header::cursor(NAME, &text, "the id of an event of a stream")?)))
    }

    fn parameters() -> Vec<Parameter> {
        let description = "Resumes a stream: the last id that the client has received. The header wins \
                           over `after` and `snapshot`, so a client repeats its first request with \
                           it. A request for a page ignores it.";
        let id = text("^[A-Za-z0-9_-]*$", "AQECAwQFBgcIAAAAAAAAAAcBAgME");
        vec![in_header(NAME, description, id)]
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
            LastEventId::read(&request, b"").map_err(|problem| problem.code().name())
        };
        for empty in [&[][..], &[""]] {
            assert_eq!(read(empty), Ok(LastEventId(None)));
        }
        let cursor = "AQECAwQFBgcIAAAAAAAAAAcBAgME";
        assert!(matches!(read(&[cursor]), Ok(LastEventId(Some(_)))));
        for invalid in [&["7"][..], &["0"], &[cursor, cursor]] {
            assert_eq!(read(invalid), Err("invalid_header"), "{invalid:?}");
        }
    }
}
