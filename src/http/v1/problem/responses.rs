//! Problems in the API's description. The type of each part of a request lists its error codes. An
//! endpoint lists its parts, and thereby all its error codes, with an example for each.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde_json::json;
use utoipa::openapi::example::{Example, ExampleBuilder};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ContentBuilder, Object, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema as _};

use super::body::{MEDIA_TYPE, Problem, ProblemBody, SAMPLE_REQUEST_ID};
use super::code::Code;
use crate::domain::Version;

/// The error codes of a part of a request, or of an endpoint.
pub(crate) trait ErrorCodes {
    fn codes() -> Vec<Code>;
}

/// The error responses of an endpoint; `T` lists the error codes.
pub(crate) struct ErrorResponses<T>(PhantomData<T>);

impl ErrorCodes for () {
    fn codes() -> Vec<Code> {
        Vec::new()
    }
}

impl<T: ErrorCodes> IntoResponses for ErrorResponses<T> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut by_status = BTreeMap::<u16, Vec<Code>>::new();
        let codes = T::codes();
        // Each code once, in the order of the table: the order of the parts has no effect.
        for code in Code::ALL.iter().filter(|code| codes.contains(code)) {
            by_status.entry(code.status().as_u16()).or_default().push(*code);
        }
        let described = |(status, codes): (u16, Vec<Code>)| {
            (status.to_string(), RefOr::T(response(status, &codes)))
        };
        by_status.into_iter().map(described).collect()
    }
}

fn response(status: u16, codes: &[Code]) -> Response {
    let names: Vec<String> = codes.iter().map(|code| format!("`{}`", code.name())).collect();
    let examples = codes.iter().map(|code| (code.name(), example(*code)));
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(ProblemBody::name())))
        .examples_from_iter(examples)
        .build();
    let mut response =
        ResponseBuilder::new().description(names.join(", ")).content(MEDIA_TYPE, content);
    let text = |description: &str| {
        HeaderBuilder::new()
            .schema(Some(Object::with_type(Type::String)))
            .description(Some(description))
            .build()
    };
    response = match status {
        401 => response.header("WWW-Authenticate", text("`Bearer`, with the error")),
        412 => response.header("ETag", text("The current version")),
        409 | 429 | 503 | 504 => {
            response.header("Retry-After", text("Seconds to wait before the next attempt"))
        }
        _ => response,
    };
    response.header("X-Request-Id", text("The id of the request in the log")).build()
}

fn example(code: Code) -> Example {
    let value = json!(Problem::sample(code).body(Some(SAMPLE_REQUEST_ID)));
    ExampleBuilder::new().summary(code.title()).value(Some(value)).build()
}

impl Problem {
    /// An example of a problem.
    pub(crate) fn sample(code: Code) -> Self {
        let sample = match code.sample().split_once(": ") {
            Some((field, reason)) => Self::for_field(code, field, reason),
            None => Self::new(code, code.sample()),
        };
        match code {
            Code::InvalidField => sample.with_limit(64, 65),
            Code::InvalidParameter => sample.with_limit(200, 201),
            Code::TooFewMembers => sample.with_limit(3, 2),
            Code::TooManyMembers => sample.with_limit(2000, 2001),
            Code::TooManyConsumers => sample.with_limit(100, 101),
            Code::BodyTooLarge => sample.with_limit(1_048_576, 1_048_577),
            Code::TooManyRequests => sample.with_max(50),
            Code::TooManyFailedAttempts => sample.with_max(10),
            Code::UriTooLong => sample.with_limit(8_192, 9_000),
            Code::AttributesTooLarge => sample.with_limit(16_384, 16_385),
            Code::VersionConflict | Code::PreconditionFailed => {
                sample.with_current_version(Version::FIRST.next())
            }
            _ => sample,
        }
    }
}
