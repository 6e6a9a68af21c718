//! The headers of conditional requests (RFC 9110, section 13). An endpoint evaluates them all, or refuses
//! them all: a condition that is ignored lets a change happen that the caller has excluded.

use actix_web::http::header::{
    HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE,
};

/// The headers, and the names that errors use.
pub(crate) const HEADERS: [(HeaderName, &str); 5] = [
    (IF_MATCH, "If-Match"),
    (IF_NONE_MATCH, "If-None-Match"),
    (IF_UNMODIFIED_SINCE, "If-Unmodified-Since"),
    (IF_MODIFIED_SINCE, "If-Modified-Since"),
    (IF_RANGE, "If-Range"),
];

/// The name of the first condition in the headers of a request; `None` if the request has none.
pub(crate) fn find(headers: &HeaderMap) -> Option<&'static str> {
    HEADERS.iter().find(|(header, _)| headers.contains_key(header)).map(|(_, name)| *name)
}
