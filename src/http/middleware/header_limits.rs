//! Heads that are larger than any call needs, refused before anything else looks at them.
//!
//! The answer has no body, like those of the server to heads that it cannot even hold. The surprise:
//! of HTTP/2 only the number of headers is counted here, as it counts their bytes while it unpacks
//! them.

use actix_web::HttpResponse;
use actix_web::dev::ServiceRequest;
use actix_web::http::{StatusCode, Version};

use crate::http::options::Options;

/// What a request with too large a head is answered.
pub(crate) fn refusal(options: &Options, request: &ServiceRequest) -> Option<HttpResponse> {
    let is_one = request.version() < Version::HTTP_2;
    let is_too_large = request.headers().len() > options.max_headers
        || is_one && bytes(request) > options.max_header_bytes as usize;
    is_too_large.then(|| HttpResponse::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE))
}

/// How many bytes the lines of a head have.
fn bytes(request: &ServiceRequest) -> usize {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let first = request.method().as_str().len() + path + "  HTTP/1.1\r\n".len();
    let headers = request.headers().iter();
    let lines = headers.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    first + lines.sum::<usize>() + "\r\n".len()
}
