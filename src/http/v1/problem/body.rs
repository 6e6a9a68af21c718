//! A problem and its JSON form.

use std::fmt;

use actix_web::http::header::{ALLOW, ETAG, LINK, WWW_AUTHENTICATE};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use super::code::Code;
use crate::domain::{Invalid, Version, quoted};
use crate::http::endpoint::ApiError;
use crate::http::middleware::request_context::{ApiStatus, ErrorReport};
use crate::http::shared::{error_text, retry_after};
use crate::telemetry::cause_chain;

/// The media type of a problem.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// An example of a request id.
pub(super) const SAMPLE_REQUEST_ID: &str = "3f0c1f0e9b7a4d52a1c6f5d3e8b70a94";

/// An error response.
#[derive(Debug)]
pub(crate) struct Problem(Box<ProblemFields>);

#[derive(Debug)]
struct ProblemFields {
    code: Code,
    detail: String,
    field: Option<String>,
    limit: Option<i64>,
    got: Option<i64>,
    current: Option<Version>,
    /// The line of the body, from 1.
    line: Option<u64>,
    /// The allowed methods, if the request used another one.
    allow: Option<String>,
    /// The path that a client should continue with, for the header `Link`.
    link: Option<&'static str>,
    /// Seconds to wait before the next attempt, if a retry can help.
    retry_after: Option<u64>,
    /// The internal cause, for the log. The client never sees it.
    cause: Option<String>,
}

/// An error, in the form of RFC 9457.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem, example = json!(Problem::sample(Code::TooManyMembers).body(Some(SAMPLE_REQUEST_ID))))]
pub(crate) struct ProblemBody<'a> {
    /// `urn:muster:problem:` and the code.
    #[schema(format = "uri")]
    r#type: String,
    /// The text that all problems with this code share.
    title: &'static str,
    /// The HTTP status of the response.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// The problem of this request, in English.
    detail: &'a str,
    code: Code,
    /// The field, parameter or header, if the problem has one.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// The limit that the request exceeds or falls short of.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<i64>,
    /// The value received, if the problem is a limit.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    got: Option<i64>,
    /// The version of the session, if the request expected another one.
    #[schema(nullable = false, example = 2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    current_version: Option<i64>,
    /// The line of the body, from 1, if the body has a JSON object in each line.
    #[schema(nullable = false, example = 3)]
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    /// The `X-Request-Id` of the response. The log contains it.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let (limit, got, line, retry_after) = (None, None, None, None);
        let (field, current, allow, link, cause, detail) =
            (None, None, None, None, None, detail.into());
        Self(Box::new(ProblemFields {
            code,
            detail,
            field,
            limit,
            got,
            current,
            line,
            allow,
            link,
            retry_after,
            cause,
        }))
    }

    /// A problem with one field, parameter or header. The detail begins with its name.
    pub(crate) fn for_field(
        code: Code,
        field: impl Into<String>,
        reason: impl fmt::Display,
    ) -> Self {
        let field = field.into();
        let mut problem = Self::new(code, format!("{field}: {reason}"));
        problem.0.field = Some(field);
        problem
    }

    /// A field, parameter or header with an invalid value.
    pub(crate) fn invalid(code: Code, field: impl Into<String>, error: &Invalid) -> Self {
        let problem = Self::for_field(code, field, error);
        match error {
            Invalid::Empty => problem.with_limit(1, 0),
            Invalid::TooLong { max, got } => problem.with_limit(*max, *got),
            Invalid::TooSmall { min, got } => problem.with_limit(*min, *got),
            Invalid::Blank
            | Invalid::Control(_)
            | Invalid::Character(_)
            | Invalid::NotVisible(_)
            | Invalid::NotANumber
            | Invalid::NotAUuid { .. } => problem,
        }
    }

    /// Renames the field of the problem to the name that the endpoint uses: the layers below know
    /// only their own names. `names` has pairs of old and new name. Any other field keeps its name.
    pub(crate) fn rename_field(mut self, names: &[(&str, &str)]) -> Self {
        let Some(field) = self.0.field.take() else { return self };
        let named = names.iter().find(|(from, _)| *from == field).map(|(_, to)| *to);
        if let (Some(to), Some(reason)) = (named, self.0.detail.strip_prefix(&field)) {
            self.0.detail = format!("{to}{reason}");
        }
        self.0.field = Some(named.map_or(field, str::to_owned));
        self
    }

    /// An internal failure.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        Self::new(Code::Internal, error_text::INTERNAL).with_cause(error)
    }

    /// States the limit of a value whose size is not known.
    pub(crate) fn with_max(mut self, max: impl TryInto<i64>) -> Self {
        self.0.limit = max.try_into().ok();
        self
    }

    /// States the limit that the request violates, and the value received.
    pub(crate) fn with_limit(mut self, limit: impl TryInto<i64>, got: impl TryInto<i64>) -> Self {
        self.0.limit = limit.try_into().ok();
        self.0.got = got.try_into().ok();
        self
    }

    /// States the line of the body. The detail begins with it.
    pub(crate) fn at_line(mut self, line: u64) -> Self {
        self.0.detail = format!("line {line}: {}", self.0.detail);
        self.0.line = Some(line);
        self
    }

    /// States the current version of the session.
    pub(crate) fn with_current_version(mut self, current: Version) -> Self {
        self.0.current = Some(current);
        self
    }

    /// States the entity tag of the response that the problem replaces.
    pub(crate) fn with_current_tag(mut self, tag: Option<&str>) -> Self {
        let number = tag.and_then(|tag| tag.trim_matches('"').parse().ok());
        self.0.current = number.and_then(|number| Version::new(number).ok());
        self
    }

    /// States the path that a client should continue with.
    pub(super) fn with_link(mut self, path: &'static str) -> Self {
        self.0.link = Some(path);
        self
    }

    /// States the seconds to wait before the next attempt.
    pub(super) fn with_retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Keeps an error with its causes for the log.
    pub(super) fn with_cause(mut self, error: &dyn std::error::Error) -> Self {
        self.0.cause = Some(cause_chain(error));
        self
    }

    #[cfg(test)]
    pub(crate) fn code(&self) -> Code {
        self.0.code
    }

    /// The HTTP status of the response.
    pub(crate) fn status(&self) -> u16 {
        self.0.code.status().as_u16()
    }

    /// The JSON body of the response.
    pub(crate) fn body<'a>(&'a self, request_id: Option<&'a str>) -> ProblemBody<'a> {
        let ProblemFields { code, detail, field, limit, got, current, line, .. } = &*self.0;
        ProblemBody {
            r#type: format!("urn:muster:problem:{}", code.name()),
            title: code.title(),
            status: self.status(),
            detail,
            code: *code,
            field: field.as_deref(),
            limit: *limit,
            got: *got,
            current_version: current.map(Version::get),
            line: *line,
            request_id,
        }
    }

    /// The response, with the id of its request if that is known.
    pub(super) fn answer(&self, request_id: Option<&str>) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        match self.0.code {
            // The rest of the body is not read, so the connection must close.
            Code::BodyTooLarge | Code::BodyTimeout | Code::BodyIncomplete | Code::UriTooLong => {
                response.force_close();
            }
            Code::MissingApiKey => {
                response.insert_header((WWW_AUTHENTICATE, "Bearer"));
            }
            Code::InvalidApiKey => {
                response.insert_header((WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""));
            }
            _ => {}
        }
        retry_after::insert(&mut response, self.0.retry_after);
        if let Some(allow) = &self.0.allow {
            response.insert_header((ALLOW, allow.as_str()));
        }
        if let Some(link) = self.0.link {
            response.insert_header((LINK, format!("<{link}>; rel=\"alternate\"")));
        }
        if let Some(current) = self.0.current {
            response.insert_header((ETAG, format!("\"{current}\"")));
        }
        let mut response = response.content_type(MEDIA_TYPE).json(self.body(request_id));
        response.extensions_mut().insert(self.report());
        response
    }

    /// The report for the log and the metrics.
    pub(super) fn report(&self) -> ErrorReport {
        ErrorReport {
            status: ApiStatus::Code(self.0.code.name()),
            is_refusal: self.0.code.is_refusal(),
            cause: self.0.cause.clone(),
            reason: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.code.name(), self.0.detail)
    }
}

impl ApiError for Problem {
    fn method_not_allowed(allow: String, got: &Method) -> Self {
        let reason = format!("only {allow}, got {}", quoted(got.as_str()));
        let mut problem = Self::for_field(Code::MethodNotAllowed, "method", reason);
        problem.0.allow = Some(allow);
        problem
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.code.status()
    }

    fn error_response(&self) -> HttpResponse {
        self.answer(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_renamed_to_the_callers_names() {
        let names = [("delMember", "account"), ("member", "account")];
        for (field, renamed) in
            [("delMember", "account"), ("member", "account"), ("owner", "owner")]
        {
            let problem = Problem::for_field(Code::NotTheOwner, field, "no").rename_field(&names);
            let body = problem.body(None);
            assert_eq!(
                (body.field, body.detail),
                (Some(renamed), format!("{renamed}: no").as_str())
            );
        }
        let problem = Problem::new(Code::Internal, "delMember").rename_field(&names);
        assert_eq!((problem.body(None).field, problem.body(None).detail), (None, "delMember"));
    }
}
