//! Rejects requests with a too large header section, before anything else reads them.
//!
//! The response has no body, like the framework's own response to a header section that exceeds its
//! buffer. The surprise: for HTTP/2, only the number of headers is checked here, because `h2`
//! limits their bytes while it decodes them.

use actix_web::HttpResponse;
use actix_web::dev::ServiceRequest;
use actix_web::http::{StatusCode, Version};

use crate::http::options::Options;

/// The response to a request with a too large header section; `None` if the header section is
/// within the limits.
pub(crate) fn check(options: &Options, request: &ServiceRequest) -> Option<HttpResponse> {
    let is_http1 = request.version() < Version::HTTP_2;
    let is_too_large = request.headers().len() > options.max_headers
        || is_http1 && header_len(request) > options.max_header_bytes as usize;
    is_too_large.then(|| HttpResponse::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE))
}

/// The length of a header section in bytes, as HTTP/1 text.
fn header_len(request: &ServiceRequest) -> usize {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let first = request.method().as_str().len() + path + "  HTTP/1.1\r\n".len();
    let headers = request.headers().iter();
    let lines = headers.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    first + lines.sum::<usize>() + "\r\n".len()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::test::TestRequest;

    use super::*;

    fn options() -> Options {
        let timeout = Duration::from_secs(1);
        Options {
            workers: 1,
            max_body_bytes: 0,
            max_body_bytes_in_flight: 0,
            max_uri_bytes: 0,
            max_header_bytes: 100,
            max_headers: 2,
            max_connections: 1,
            max_connections_per_address: 0,
            header_timeout: timeout,
            body_timeout: timeout,
            write_timeout: timeout,
            keep_alive_timeout: timeout,
            request_timeout: timeout,
            shutdown_timeout: timeout,
            hsts_max_age: None,
        }
    }

    #[test]
    fn header_section_is_limited_in_headers_and_bytes() {
        let long = "x".repeat(100);
        for (headers, version, is_refused) in [
            (&[("a", "1"), ("b", "2")][..], Version::HTTP_11, false),
            (&[("a", "1"), ("b", "2"), ("c", "3")], Version::HTTP_11, true),
            (&[("a", &long)], Version::HTTP_11, true),
            // `h2` has checked these bytes already.
            (&[("a", &long)], Version::HTTP_2, false),
            (&[("a", "1"), ("b", "2"), ("c", "3")], Version::HTTP_2, true),
        ] {
            let mut request = TestRequest::default().version(version);
            for (name, value) in headers {
                request = request.append_header((*name, *value));
            }
            let refused = check(&options(), &request.to_srv_request());
            let status = refused.map(|response| response.status().as_u16());
            assert_eq!(status, is_refused.then_some(431), "{headers:?} {version:?}");
        }
    }
}
