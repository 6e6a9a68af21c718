//! The length limit of a path with its query. The check comes before anything else of a request.
//!
//! Each API maps a [`UriTooLong`] to an error of its own.

use actix_web::{HttpRequest, web};

use super::options::Options;

/// The path with its query is too long.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("path and query must have at most {max} bytes, got {got}")]
pub(super) struct UriTooLong {
    /// The limit, in bytes.
    pub(super) max: usize,
    /// The actual length, in bytes.
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
