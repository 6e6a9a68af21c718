//! Headers of every response that tell browsers and caches how to treat it.
//!
//! Responses hold messages of apps, so no cache may keep them, and no browser may guess another type. A
//! handler whose response may be kept sets `Cache-Control` itself. Over TLS, a header can forbid browsers
//! to use plain HTTP again (RFC 6797); over plain HTTP they must ignore it, so it is not sent.

use std::time::Duration;

use actix_web::dev::ServiceResponse;
use actix_web::http::header::{
    CACHE_CONTROL, HeaderValue, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};

/// The value of `Strict-Transport-Security`: for `max_age`, only HTTPS.
pub(crate) fn hsts(max_age: Duration) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("max-age={}", max_age.as_secs())).ok()
}

/// Writes the headers, the last one if `hsts` is its value.
pub(crate) fn write<B>(response: &mut ServiceResponse<B>, hsts: Option<&HeaderValue>) {
    let headers = response.headers_mut();
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(hsts) = hsts {
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
}

#[cfg(test)]
mod tests {
    use actix_web::HttpResponse;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn response_may_not_be_kept_unless_it_says_so() {
        for (own, expected) in [(None, "no-store"), (Some("max-age=3600"), "max-age=3600")] {
            let mut response = HttpResponse::Ok();
            if let Some(own) = own {
                response.insert_header((CACHE_CONTROL, own));
            }
            let mut response = TestRequest::default().to_srv_response(response.finish());
            write(&mut response, None);
            let headers = response.headers();
            assert_eq!(headers.get_all(CACHE_CONTROL).collect::<Vec<_>>(), [expected]);
            assert_eq!(headers.get(X_CONTENT_TYPE_OPTIONS).unwrap(), "nosniff");
            assert!(!headers.contains_key(STRICT_TRANSPORT_SECURITY));
            write(&mut response, hsts(Duration::from_secs(90)).as_ref());
            assert_eq!(response.headers().get(STRICT_TRANSPORT_SECURITY).unwrap(), "max-age=90");
        }
    }
}
