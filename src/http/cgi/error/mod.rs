//! Error responses of this API: an `errcode` and an `errmsg` that names the field.

mod from;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use actix_web::http::header::ALLOW;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;

use crate::domain::{Invalid, quoted};
use crate::http::endpoint::ApiError;
use crate::http::middleware::request_context::{ApiStatus, ErrorReport};
use crate::http::shared::error_text;
use crate::http::shared::retry_after::{self, retry_after_seconds};
use crate::telemetry::cause_chain;
use crate::wire::{Errcode, Malformed};

/// An error response.
#[derive(Debug)]
pub(super) struct CgiError {
    errcode: Errcode,
    errmsg: Cow<'static, str>,
    /// The `errmsg` of the sealed form, which has nothing of the message. Without it, the sealed form
    /// has a constant `errmsg` as it is, and of any other only the field.
    sealed_errmsg: Option<Box<str>>,
    status: StatusCode,
    /// The allowed methods, if the request used another one.
    allow: Option<Box<str>>,
    /// Seconds to wait before the next attempt, if a retry can help.
    retry_after: Option<u64>,
    /// The internal cause, for the log. The client never sees it.
    cause: Option<String>,
    /// The mistake in the request, for the log. The client never sees it.
    reason: Option<Box<str>>,
}

impl CgiError {
    /// An error with HTTP status 200, the usual status of this API.
    pub(super) fn new(errcode: Errcode, errmsg: impl Into<Cow<'static, str>>) -> Self {
        let (status, errmsg) = (StatusCode::OK, errmsg.into());
        Self {
            errcode,
            errmsg,
            sealed_errmsg: None,
            status,
            allow: None,
            retry_after: None,
            cause: None,
            reason: None,
        }
    }

    /// An error whose `errmsg` has nothing of the request, so that the sealed form has it as well.
    pub(super) fn without_values(errcode: Errcode, errmsg: String) -> Self {
        Self::new(errcode, errmsg).shown_to_sealed()
    }

    /// A required field is missing.
    pub(super) fn missing(errcode: Errcode, field: &'static str) -> Self {
        Self::without_values(errcode, format!("{field}: is missing"))
    }

    /// A field has an invalid value.
    pub(super) fn invalid(errcode: Errcode, field: impl fmt::Display, error: &Invalid) -> Self {
        let sealed_errmsg = format!("{field}: {}", error.without_value());
        Self::new(errcode, format!("{field}: {error}")).with_sealed_errmsg(sealed_errmsg)
    }

    /// The text at `location`, such as `body`, cannot be read.
    pub(super) fn malformed(location: &str, error: &Malformed) -> Self {
        let errcode = match error {
            Malformed::NotJson(_) | Malformed::NotAnObject(_) => Errcode::BadFormat,
            Malformed::Duplicate(_) | Malformed::TooManyFields(_) => Errcode::BadRequest,
        };
        let names_its_field = matches!(error, Malformed::Duplicate(_));
        let errmsg =
            if names_its_field { error.to_string() } else { format!("{location}: {error}") };
        Self::new(errcode, errmsg)
    }

    pub(super) fn not_found() -> Self {
        let errmsg = format!("path: {}", error_text::NO_SUCH_ENDPOINT);
        Self::without_values(Errcode::BadRequest, errmsg).with_status(StatusCode::NOT_FOUND)
    }

    /// The vendor's server has this call, Muster does not.
    pub(super) fn not_implemented() -> Self {
        let errmsg = "path: Muster has only gettoken and session/create, get and update";
        Self::new(Errcode::BadRequest, errmsg).with_status(StatusCode::NOT_IMPLEMENTED)
    }

    /// An internal failure.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        Self::new(Errcode::Internal, error_text::INTERNAL).with_cause(error)
    }

    /// Keeps an error with its causes for the log.
    fn with_cause(self, error: &dyn std::error::Error) -> Self {
        Self { cause: Some(cause_chain(error)), ..self }
    }

    fn unavailable(errmsg: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Errcode::Internal, errmsg)
            .with_status(StatusCode::SERVICE_UNAVAILABLE)
            .with_retry_after(1)
    }

    fn timed_out(errmsg: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Errcode::Internal, errmsg)
            .with_status(StatusCode::GATEWAY_TIMEOUT)
            .with_retry_after(1)
    }

    /// Sets the text for the sealed form, which has nothing of the message.
    pub(super) fn with_sealed_errmsg(self, errmsg: impl Into<Box<str>>) -> Self {
        Self { sealed_errmsg: Some(errmsg.into()), ..self }
    }

    /// Keeps the text for the sealed form, because it has nothing of the message.
    fn shown_to_sealed(self) -> Self {
        let errmsg = self.errmsg.to_string();
        self.with_sealed_errmsg(errmsg)
    }

    /// The error without anything of the message, for a sealed request. An attacker can put a
    /// message together from sealed texts, and the errors of Muster must not read it to them.
    pub(super) fn without_echo(mut self) -> Self {
        if let Some(errmsg) = self.sealed_errmsg.take() {
            self.errmsg = Cow::Owned(errmsg.into());
        } else if let Cow::Owned(errmsg) = &self.errmsg {
            let field = errmsg.split([':', '[']).next().unwrap_or_default();
            self.errmsg = Cow::Owned(format!("{field}: is invalid"));
        }
        self
    }

    /// Too many attempts. The protocol has no code for this case. Clients try again after any other
    /// status.
    fn throttled(errmsg: String, wait: Duration) -> Self {
        Self::without_values(Errcode::Internal, errmsg)
            .with_status(StatusCode::TOO_MANY_REQUESTS)
            .with_retry_after(retry_after_seconds(wait))
    }

    fn with_retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

impl fmt::Display for CgiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.errcode.number(), self.errmsg)
    }
}

impl ApiError for CgiError {
    fn method_not_allowed(allow: String, got: &Method) -> Self {
        let errmsg = format!("method: only {allow}, got {}", quoted(got.as_str()));
        let mut error =
            Self::new(Errcode::BadRequest, errmsg).with_status(StatusCode::METHOD_NOT_ALLOWED);
        error.allow = Some(allow.into());
        error
    }
}

impl ResponseError for CgiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        match self.status {
            // The rest of the body is not read, so the connection must close.
            StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::URI_TOO_LONG => {
                response.force_close();
            }
            _ => {}
        }
        retry_after::insert(&mut response, self.retry_after);
        if let Some(allow) = &self.allow {
            response.insert_header((ALLOW, &**allow));
        }
        let errcode = self.errcode.number();
        let mut response = response.json(json!({ "errcode": errcode, "errmsg": self.errmsg }));
        let status = ApiStatus::Errcode(errcode);
        response.extensions_mut().insert(ErrorReport {
            status,
            is_refusal: self.status == StatusCode::SERVICE_UNAVAILABLE,
            cause: self.cause.clone(),
            reason: self.reason.as_deref().map(str::to_owned),
        });
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_values_is_reduced_to_its_field_in_the_sealed_form() {
        for (errmsg, sealed) in [
            ("title: unknown letter in \"secret\"", "title: is invalid"),
            ("member[3]: secret", "member: is invalid"),
        ] {
            let error = CgiError::new(Errcode::BadRequest, errmsg.to_owned());
            assert_eq!(error.without_echo().errmsg, sealed);
        }
        let constant = CgiError::new(Errcode::BadRequest, "title: must not be blank");
        assert_eq!(constant.without_echo().errmsg, "title: must not be blank");
        let missing = CgiError::missing(Errcode::BadRequest, "title");
        assert_eq!(missing.without_echo().errmsg, "title: is missing");
    }
}
