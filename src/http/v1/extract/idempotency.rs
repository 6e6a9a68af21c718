//! `Idempotency-Key`: a request that is sent twice with the same key is executed once.

use actix_web::HttpRequest;
use utoipa::openapi::path::Parameter;

use super::conditions;
use super::parameter::{in_header, text};
use super::part::RequestPart;
use crate::domain::IdempotencyKey;
use crate::http::shared::idempotency::{self, HEADER_NAME};
use crate::http::v1::problem::{Code, ErrorCodes, Problem};

/// The key of a request, if the request has one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IdempotencyKeyHeader(pub(crate) Option<IdempotencyKey>);

impl ErrorCodes for IdempotencyKeyHeader {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidHeader, Code::IdempotencyKeyReused]
    }
}

impl RequestPart for IdempotencyKeyHeader {
    fn read(request: &HttpRequest, body: &[u8]) -> Result<Self, Problem> {
        let wrong = |reason: &str| Problem::for_field(Code::InvalidHeader, HEADER_NAME, reason);
        let key = idempotency::find(request.headers()).map_err(wrong)?;
        let Some(key) = key else { return Ok(Self(None)) };
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        // A stored outcome must not answer a request that has another condition.
        let conditions = conditions::fingerprint(request)?;
        let scope = [request.method().as_str(), target, &conditions];
        let scope = if conditions.is_empty() { &scope[..2] } else { &scope };
        parse_key((Code::InvalidHeader, HEADER_NAME), key, scope, body).map(|key| Self(Some(key)))
    }

    fn parameters() -> Vec<Parameter> {
        let description = "The caller's key of this request, kept for 24 hours for each app. The \
                     same request with the same key is executed once: a repetition gets the same \
                     response, with `Idempotency-Replayed: true`. Another request with that key is \
                     refused. Of the headers, only conditions are compared.";
        let key = text("^[!-~]{1,255}$", "8e03978e-40d5-43dd-bc93-6894a57f9324");
        vec![in_header(HEADER_NAME, description, key)]
    }
}

/// The key of a request with a JSON `body`. Two requests are the same if `scope` and the JSON value
/// of the body are equal. `code` and `field` are for a problem with the key.
pub(crate) fn parse_key(
    (code, field): (Code, &str),
    key: &str,
    scope: &[&str],
    body: &[u8],
) -> Result<IdempotencyKey, Problem> {
    IdempotencyKey::new(key, idempotency::digest(scope, body))
        .map_err(|error| Problem::invalid(code, field, &error))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::http::shared::idempotency::HEADER;

    fn read(keys: &[&str]) -> Result<Option<String>, &'static str> {
        let add = |request: TestRequest, key: &&str| request.append_header((HEADER, *key));
        let request = keys.iter().fold(TestRequest::default(), add).to_http_request();
        let read = IdempotencyKeyHeader::read(&request, b"");
        read.map(|IdempotencyKeyHeader(key)| key.map(|key| key.name().to_owned()))
            .map_err(|problem| problem.code().name())
    }

    #[test]
    fn key_is_visible_ascii_of_bounded_length() {
        let long = "x".repeat(255);
        for key in ["a", "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "~!", &long] {
            assert_eq!(read(&[key]), Ok(Some(key.to_owned())));
        }
        assert_eq!(read(&[]), Ok(None));
        for key in ["", "a b", "a\tb", "é", &format!("{long}x")] {
            assert_eq!(read(&[key]), Err("invalid_header"), "{key}");
        }
        assert_eq!(read(&["a", "a"]), Err("invalid_header"));
    }

    #[test]
    fn the_same_request_has_the_same_digest() {
        let digest = |method: actix_web::http::Method, uri: &str, body: &str| {
            let request = TestRequest::with_uri(uri).method(method).insert_header((HEADER, "k"));
            let IdempotencyKeyHeader(key) =
                IdempotencyKeyHeader::read(&request.to_http_request(), body.as_bytes()).unwrap();
            *key.unwrap().digest()
        };
        use actix_web::http::Method;
        let first = digest(Method::POST, "/v1/sessions", r#"{"a":1,"b":{"c":"\u0061","d":[]}}"#);
        assert_eq!(
            first,
            digest(Method::POST, "/v1/sessions", r#"{ "b": {"d": [], "c": "a"}, "a": 1 }"#)
        );
        for other in [
            digest(Method::PATCH, "/v1/sessions", r#"{"a":1,"b":{"c":"a","d":[]}}"#),
            digest(Method::POST, "/v1/sessions?x", r#"{"a":1,"b":{"c":"a","d":[]}}"#),
            digest(Method::POST, "/v1/sessions", r#"{"a":2,"b":{"c":"a","d":[]}}"#),
            digest(Method::POST, "/v1/sessions", "["),
        ] {
            assert_ne!(first, other);
        }
    }
}
