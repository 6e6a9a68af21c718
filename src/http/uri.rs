//! Paths with queries that are longer than any call needs. They are looked at before anything else
//! of a call; each API puts a [`UriTooLong`] into its own words.

use actix_web::{HttpRequest, web};

use super::options::Options;

/// A path with its query that is too long.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("path and query must have at most {max} bytes, got {got}")]
pub(super) struct UriTooLong {
    /// The limit, in bytes.
    pub(super) max: usize,
    /// What came, in bytes.
    pub(super) got: usize,
}

/// Refuses a request whose path and query are too long.
pub(super) fn check_len(request: &HttpRequest) -> Result<(), UriTooLong> {
    let max = request
        .app_data::<web::Data<Options>>()
        .map_or(usize::MAX, |options| options.max_uri_bytes);
    let got = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if got > max { Err(UriTooLong { max, got }) } else { Ok(()) }
}
