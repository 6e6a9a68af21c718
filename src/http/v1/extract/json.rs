//! JSON bodies, read strictly: an unknown field, a repeated field or a wrong type is an error. An
//! optional field may be `null`, which counts as absent.

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use actix_web::web::{self, Bytes};
use actix_web::{HttpMessage as _, HttpRequest};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use super::field;
use super::field::{FieldCodes, truncate};
use super::part::RequestPart;
use crate::domain::quoted;
use crate::http::body::BodyError;
use crate::http::shared::json_error;
use crate::http::v1::problem::{Code, ErrorCodes, Problem};
use crate::service::Sessions;
use crate::wire::{JsonObject, Malformed, explain_json_error};

const CODES: FieldCodes = FieldCodes {
    invalid: Code::InvalidField,
    missing: Code::MissingField,
    unknown: Code::UnknownField,
    duplicate: Code::DuplicateField,
};

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T> ErrorCodes for Json<T> {
    fn codes() -> Vec<Code> {
        let mut codes = CODES.all();
        codes.extend([Code::MalformedBody, Code::UnsupportedMediaType]);
        codes
    }
}

impl<T: DeserializeOwned + Send + 'static> RequestPart for Json<T> {
    fn read(request: &HttpRequest, body: &[u8]) -> Result<Self, Problem> {
        check_content_type(request)?;
        read(body).map(Self)
    }

    async fn read_large(request: &HttpRequest, body: &Bytes) -> Result<Self, Problem> {
        check_content_type(request)?;
        let sessions = request.app_data::<web::Data<Sessions>>();
        let sessions = sessions.ok_or_else(|| Problem::internal(&BodyError::NotConfigured))?;
        let body = body.clone();
        sessions.work_in_background(move || read(&body)).await.map(Self)
    }
}

/// Reads a JSON object.
pub(crate) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    // Derived code would also accept an array, with an item for each field.
    if !text.trim_ascii_start().starts_with(b"{") {
        let checked = serde_json::from_slice::<IgnoredAny>(text);
        return Err(checked.map_or_else(
            |error| malformed(explain_json_error(&error.to_string())),
            |_| not_an_object(text),
        ));
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        match error.inner().classify() {
            Category::Data => {
                field::problem(&CODES, error.path(), &error.inner().to_string(), None)
            }
            Category::Syntax | Category::Eof | Category::Io => {
                malformed(json_error::explain(error.inner(), error.path()))
            }
        }
    })?;
    json.end().map_err(|error| malformed(explain_json_error(&error.to_string())))?;
    Ok(value)
}

/// The problem for JSON that is no object.
fn not_an_object(text: &[u8]) -> Problem {
    match JsonObject::parse(text, &[]) {
        Err(error @ Malformed::NotAnObject(_)) => malformed(error.to_string()),
        _ => malformed("must be a JSON object".to_owned()),
    }
}

fn malformed(reason: String) -> Problem {
    // serde_json counts down from 128 and fails at 0, so 127 levels are allowed.
    let reason = match reason.strip_prefix("recursion limit exceeded") {
        Some(position) => format!("is nested too deeply, at most 127 levels{position}"),
        None => reason,
    };
    Problem::for_field(Code::MalformedBody, "body", truncate(&reason))
}

/// A request without a content type counts as JSON. Types with the suffix `+json` are JSON too.
fn check_content_type(request: &HttpRequest) -> Result<(), Problem> {
    check_media_type(request, "application/json", |suffix, kind, subtype| {
        suffix == "json" || (kind == "application" && subtype == "json")
    })
}

/// The received value of a header, for an error.
fn quoted_header(request: &HttpRequest, name: &HeaderName) -> String {
    let value = request.headers().get(name).map(|value| value.as_bytes()).unwrap_or_default();
    quoted(&String::from_utf8_lossy(value))
}

/// Checks that the media type of a body is accepted, or absent, and that the body is not compressed.
/// `is_accepted` takes the suffix, the type and the subtype, in lower case.
pub(super) fn check_media_type(
    request: &HttpRequest,
    expected: &str,
    is_accepted: fn(&str, &str, &str) -> bool,
) -> Result<(), Problem> {
    let unsupported =
        |field, reason: String| Problem::for_field(Code::UnsupportedMediaType, field, reason);
    let is_expected = match request.mime_type() {
        Ok(None) => true,
        Ok(Some(kind)) => {
            let suffix = kind.suffix().map_or("", |suffix| suffix.as_str());
            let names = [suffix, kind.type_().as_str(), kind.subtype().as_str()];
            let [suffix, kind, subtype] = names.map(str::to_ascii_lowercase);
            is_accepted(&suffix, &kind, &subtype)
        }
        Err(_) => false,
    };
    if !is_expected {
        let got = quoted_header(request, &CONTENT_TYPE);
        return Err(unsupported("Content-Type", format!("must be {expected}, got {got}")));
    }
    match request.headers().get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let got = quoted_header(request, &CONTENT_ENCODING);
            Err(unsupported("Content-Encoding", format!("must be identity or absent, got {got}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actix_web::test::TestRequest;
    use serde::Deserialize;

    use super::*;
    use crate::domain::Buin;
    use crate::http::body;
    use crate::http::body::budget::{BodyBudget, BodyOwner, SharedBodyBudget};
    use crate::http::options::Options;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Example {
        title: String,
        add_member: Option<Vec<String>>,
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        number: i64,
    }

    fn problem(text: &str) -> (&'static str, String) {
        let problem = read::<Example>(text.as_bytes()).unwrap_err();
        let text = problem.to_string();
        (problem.code().name(), text.split_once(' ').unwrap().1.to_owned())
    }

    #[actix_web::test]
    async fn large_body_takes_one_turn() {
        let sessions = Sessions::for_tests();
        let turns = sessions.work_turns().clone();
        let shared = Arc::new(SharedBodyBudget::new(1 << 20, Arc::default()));
        let text = format!(r#"{{"title":"{}"}}"#, "t".repeat(40_000));
        let (request, mut payload) = TestRequest::post()
            .app_data(web::Data::new(Options::for_tests()))
            .app_data(BodyBudget::for_current_thread(shared, turns.clone()))
            .app_data(web::Data::new(sessions))
            .set_payload(text)
            .to_http_parts();
        let owner = BodyOwner::Enterprise(Buin::new(1).unwrap());
        let body = body::read(&request, &mut payload, owner, usize::MAX).await.unwrap();
        assert!(body.turn.is_some());
        let Json(read) = Json::<Example>::read_large(&request, &body.bytes).await.unwrap();
        assert_eq!((read.title.len(), turns.taken()), (40_000, 1));
    }

    #[test]
    fn null_counts_as_absent() {
        let expected = Example { title: "t".to_owned(), add_member: None, inner: None };
        for text in [r#"{"title":"t"}"#, r#" {"title":"t","addMember":null,"inner":null} "#] {
            assert_eq!(read::<Example>(text.as_bytes()).unwrap(), expected);
        }
    }

    #[test]
    fn errors_name_the_field() {
        for (text, code, detail) in [
            (r#"{"title":5}"#, "invalid_field", "title: must be a string, got 5"),
            (
                r#"{"title":"t","addMember":["a",7]}"#,
                "invalid_field",
                "addMember[1]: must be a string, got 7",
            ),
            (r#"{"title":null}"#, "invalid_field", "title: must be a string, got null"),
            (r#"{"title":{}}"#, "invalid_field", "title: must be a string, got an object"),
            (r#"{"title":true}"#, "invalid_field", "title: must be a string, got true"),
            (
                r#"{"title":"t","addMember":"a, expected b"}"#,
                "invalid_field",
                r#"addMember: must be a list, got "a, expected b""#,
            ),
            (
                r#"{"title":"t","inner":[]}"#,
                "invalid_field",
                "inner: must be an object, got a list",
            ),
            (r#"{"title":"t","inner":1.5}"#, "invalid_field", "inner: must be an object, got 1.5"),
            (
                r#"{"title":"t","inner":{"number":9223372036854775808}}"#,
                "invalid_field",
                "inner.number: must be a whole number, got 9223372036854775808",
            ),
            (r#"{}"#, "missing_field", "title: is missing"),
            (
                r#"{"title":"t","inner":{"number":"expected i64"}}"#,
                "invalid_field",
                "inner.number: must be a whole number, got \"expected i64\"",
            ),
            (r#"{"title":"t","inner":{}}"#, "missing_field", "inner.number: is missing"),
            (r#"{"title":"t","title":"t"}"#, "duplicate_field", "title: appears more than once"),
            (
                r#"{"title":"t","inner":{"a`, expected b":1}}"#,
                "unknown_field",
                "inner.a`, expected b: is unknown, expected `number`",
            ),
        ] {
            assert_eq!(problem(text), (code, detail.to_owned()), "{text}");
        }
    }

    #[test]
    fn body_is_one_json_object() {
        for (text, detail) in [
            ("", "body: EOF while parsing a value at line 1 column 0"),
            ("{", "body: EOF while parsing an object at line 1 column 1"),
            (r#"["t"]"#, "body: must be a JSON object, got a list"),
            ("null", "body: must be a JSON object, got null"),
            ("[", "body: EOF while parsing a list at line 1 column 1"),
            (r#"{"title":"t"} x"#, "body: trailing characters at line 1 column 15"),
            ("{\n'title'}", "body: key must be a string at line 2 column 1"),
            (r#"{"title":"\ud800"}"#, "body: a lone surrogate at line 1 column 17, in title"),
            (
                r#"{"title":"t","addMember":["a","\ude00"]}"#,
                "body: a lone surrogate at line 1 column 37, in addMember[1]",
            ),
            (
                r#"{"title":"t","inner":{"number":1e999}}"#,
                "body: a number is too large at line 1 column 36, in inner.number",
            ),
        ] {
            assert_eq!(problem(text), ("malformed_body", detail.to_owned()), "{text}");
        }
    }

    #[test]
    fn invalid_utf_8_is_named() {
        let problem = read::<Example>(b"{\"title\":\"\xff\"}").unwrap_err().to_string();
        assert_eq!(problem, "malformed_body body: invalid UTF-8 at line 1 column 11");
    }

    #[test]
    fn error_quotes_a_bounded_part_of_the_input() {
        let (_, detail) = problem(&format!(r#"{{"title":"t","{}":1}}"#, "x".repeat(10_000)));
        assert!(detail.chars().count() < 300, "{detail}");
        let (_, detail) = problem(&format!(r#"{{"title":"t","inner":"{}"}}"#, "项".repeat(10_000)));
        assert!(detail.chars().count() < 300, "{detail}");
    }

    #[test]
    fn content_type_is_json_or_absent() {
        let read = |kind: Option<&str>| {
            let request = kind.map_or_else(TestRequest::default, |kind| {
                TestRequest::default().insert_header((CONTENT_TYPE, kind))
            });
            let read = Json::<Example>::read(&request.to_http_request(), br#"{"title":"t"}"#);
            read.is_ok_and(|Json(body)| body.title == "t")
        };
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/merge-patch+json",
            "application/vnd.example+json",
        ] {
            assert!(read(Some(kind)), "{kind}");
        }
        assert!(read(None));
        for kind in ["text/plain", "application/x-www-form-urlencoded", "text/json", "json", "é"] {
            assert!(!read(Some(kind)), "{kind}");
        }
        let gzip = TestRequest::default().insert_header((CONTENT_ENCODING, "gzip"));
        let problem = check_content_type(&gzip.to_http_request()).unwrap_err().to_string();
        let expected =
            "unsupported_media_type Content-Encoding: must be identity or absent, got \"gzip\"";
        assert_eq!(problem, expected);
        let long = format!("text/{}", "x".repeat(100));
        let other = TestRequest::default().insert_header((CONTENT_TYPE, long.as_str()));
        let problem = check_content_type(&other.to_http_request()).unwrap_err().to_string();
        let (start, cut) = ("unsupported_media_type Content-Type", &long[..64]);
        assert_eq!(problem, format!("{start}: must be application/json, got \"{cut}\"…"));
    }
}
