//! Error responses of this API: an `errcode` and an `errmsg` that names the field.
//!
//! Only this file turns the errors of the layers below into error codes. The matches have no `_`
//! arm, so a new error does not compile until it has a code.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::ALLOW;
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;

use crate::domain::{Invalid, RuleViolation};
use crate::http::auth::authenticate::AuthRejection;
use crate::http::body::BodyError;
use crate::http::endpoint::ApiError;
use crate::http::middleware::request_context::{ApiStatus, ErrorReport};
use crate::http::middleware::timeout::{CLIENT_CLOSED_REQUEST, NoResponse};
use crate::http::shared::cause_chain::cause_chain;
use crate::http::shared::error_text;
use crate::http::shared::retry_after::{self, retry_after_seconds};
use crate::http::uri::UriTooLong;
use crate::service::{AuthError, Error};
use crate::wire::{Errcode, FieldError, Malformed, OpenError};

/// An error response.
#[derive(Debug)]
pub(super) struct CgiError {
    errcode: Errcode,
    errmsg: String,
    status: StatusCode,
    /// The allowed methods, if the request used another one.
    allow: Option<String>,
    /// Seconds to wait before the next attempt, if a retry can help.
    retry_after: Option<u64>,
    /// The internal cause, for the log. The client never sees it.
    cause: Option<String>,
}

impl CgiError {
    /// An error with HTTP status 200, the usual status of this API.
    pub(super) fn new(errcode: Errcode, errmsg: impl Into<String>) -> Self {
        let (status, errmsg) = (StatusCode::OK, errmsg.into());
        Self { errcode, errmsg, status, allow: None, retry_after: None, cause: None }
    }

    /// A required field is missing.
    pub(super) fn missing(errcode: Errcode, field: &str) -> Self {
        Self::new(errcode, format!("{field}: is missing"))
    }

    /// A field has an invalid value.
    pub(super) fn invalid(field: impl fmt::Display, error: &Invalid) -> Self {
        Self::new(Errcode::BadRequest, format!("{field}: {error}"))
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
        Self::new(Errcode::BadRequest, errmsg).with_status(StatusCode::NOT_FOUND)
    }

    /// An internal failure.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        Self::new(Errcode::Internal, error_text::INTERNAL).with_cause(error)
    }

    /// Keeps an error with its causes for the log.
    fn with_cause(self, error: &dyn std::error::Error) -> Self {
        Self { cause: Some(cause_chain(error)), ..self }
    }

    fn unavailable(errmsg: impl Into<String>) -> Self {
        Self::new(Errcode::Internal, errmsg)
            .with_status(StatusCode::SERVICE_UNAVAILABLE)
            .with_retry_after(1)
    }

    fn timed_out(errmsg: impl Into<String>) -> Self {
        Self::new(Errcode::Internal, errmsg)
            .with_status(StatusCode::GATEWAY_TIMEOUT)
            .with_retry_after(1)
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
    fn method_not_allowed(allow: String) -> Self {
        let mut error = Self::new(Errcode::BadRequest, format!("method: only {allow}"))
            .with_status(StatusCode::METHOD_NOT_ALLOWED);
        error.allow = Some(allow);
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
            response.insert_header((ALLOW, allow.as_str()));
        }
        let errcode = self.errcode.number();
        let mut response = response.json(json!({ "errcode": errcode, "errmsg": self.errmsg }));
        let status = ApiStatus::Errcode(errcode);
        response.extensions_mut().insert(ErrorReport { status, cause: self.cause.clone() });
        response
    }
}

impl From<Error> for CgiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(error) => error.into(),
            Error::Rejected(violation) => violation.into(),
            Error::SessionNotFound => {
                let errmsg = format!("sessionId: {}", error_text::NO_SUCH_SESSION);
                Self::new(Errcode::SessionUnknown, errmsg)
            }
            // No endpoint of this API causes this error or the next two.
            Error::VersionNotFound => {
                Self::new(Errcode::BadRequest, "version: the session has no such version")
            }
            Error::MemberNotFound => {
                Self::new(Errcode::BadRequest, "member: not a member of the session")
            }
            Error::IdempotencyKeyReused => Self::new(Errcode::BadRequest, format!("key: {error}")),
            Error::Contention => Self::unavailable(format!("sessionId: {}", error_text::CONTENDED)),
            Error::Unavailable(error) => {
                Self::unavailable(error_text::UNAVAILABLE).with_cause(&error)
            }
            Error::Overloaded { wait } => Self::unavailable(error_text::OVERLOADED)
                .with_retry_after(retry_after_seconds(wait)),
            Error::StatementTimeout(error) => {
                Self::unavailable(error_text::TOO_SLOW).with_cause(&error)
            }
            Error::OutcomeUnknown(error) => {
                Self::timed_out(error_text::UNANSWERED).with_cause(&error)
            }
            Error::Internal(error) => Self::internal(&error),
        }
    }
}

impl From<AuthError> for CgiError {
    fn from(error: AuthError) -> Self {
        let errcode = match error {
            AuthError::MissingToken => Errcode::TokenEmpty,
            AuthError::UnknownToken => Errcode::TokenUnknown,
            AuthError::ExpiredToken => Errcode::TokenExpired,
            AuthError::UnknownApp => Errcode::InvalidAppId,
            AuthError::WrongEnterprise => Errcode::BuinWrong,
            // The sealed content is the time. A wrong time gets the same error as a bad envelope.
            AuthError::ClockSkew => return OpenError.into(),
            AuthError::MissingPermission(_) => Errcode::NoRight,
        };
        let field = match error {
            AuthError::MissingToken | AuthError::UnknownToken | AuthError::ExpiredToken => {
                "accessToken"
            }
            AuthError::UnknownApp | AuthError::MissingPermission(_) => "appId",
            AuthError::WrongEnterprise => "buin",
            AuthError::ClockSkew => "encrypt",
        };
        Self::new(errcode, format!("{field}: {error}"))
    }
}

impl From<RuleViolation> for CgiError {
    fn from(violation: RuleViolation) -> Self {
        let (errcode, field) = match &violation {
            RuleViolation::NotAMember { .. } => (Errcode::IllegalAccess, "opUser"),
            RuleViolation::RemovalNotAllowed { .. } => (Errcode::IllegalAccess, "delMember"),
            RuleViolation::OwnerOnly { .. } => (Errcode::IllegalAccess, "opUser"),
            RuleViolation::MissingReason => (Errcode::BadRequest, "reason"),
            RuleViolation::OwnerNotAMember { .. } => (Errcode::BadRequest, "owner"),
            RuleViolation::AttributesTooLarge { .. } => (Errcode::BadRequest, "attributes"),
            RuleViolation::AddedAndRemoved { .. } => (Errcode::BadRequest, "delMember"),
            RuleViolation::TooFewMembers { .. } => (Errcode::TooFewMembers, "member"),
            RuleViolation::TooManyMembers { .. } => (Errcode::TooManyMembers, "member"),
            RuleViolation::Dissolved => (Errcode::SessionDissolved, "sessionId"),
            RuleViolation::VersionConflict { .. } => (Errcode::VersionConflict, "version"),
        };
        Self::new(errcode, format!("{field}: {violation}"))
    }
}

impl From<AuthRejection> for CgiError {
    fn from(rejection: AuthRejection) -> Self {
        let throttled = |errmsg: &str, wait| {
            // The protocol has no code for this case. Clients try again after any other status.
            Self::new(Errcode::Internal, errmsg)
                .with_status(StatusCode::TOO_MANY_REQUESTS)
                .with_retry_after(retry_after_seconds(wait))
        };
        match rejection {
            AuthRejection::Error(error) => error.into(),
            AuthRejection::Throttled { wait } => {
                throttled("accessToken: too many invalid attempts came from this address", wait)
            }
            AuthRejection::RateLimited { wait } => {
                throttled("appId: too many requests, try again", wait)
            }
            AuthRejection::NotConfigured => Self::internal(&std::io::Error::other(
                "the router has no RequestAuth or Authenticator",
            )),
        }
    }
}

impl From<NoResponse> for CgiError {
    fn from(error: NoResponse) -> Self {
        match error {
            NoResponse::TimedOut { .. } => Self::timed_out(error.to_string()).with_cause(&error),
            NoResponse::ClientClosed { .. } => {
                let status =
                    StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST);
                Self::new(Errcode::Internal, error.to_string()).with_status(status)
            }
        }
    }
}

impl From<BodyError> for CgiError {
    fn from(error: BodyError) -> Self {
        let (errcode, status) = match &error {
            BodyError::TooLarge { .. } => (Errcode::BadRequest, StatusCode::PAYLOAD_TOO_LARGE),
            BodyError::Timeout { .. } => (Errcode::BadRequest, StatusCode::REQUEST_TIMEOUT),
            BodyError::Incomplete => (Errcode::BadFormat, StatusCode::OK),
            BodyError::NotConfigured => return Self::internal(&error),
        };
        Self::new(errcode, format!("body: {error}")).with_status(status)
    }
}

impl From<UriTooLong> for CgiError {
    fn from(error: UriTooLong) -> Self {
        Self::new(Errcode::BadRequest, error.to_string()).with_status(StatusCode::URI_TOO_LONG)
    }
}

impl From<FieldError> for CgiError {
    fn from(error: FieldError) -> Self {
        Self::new(Errcode::BadRequest, error.to_string())
    }
}

impl From<OpenError> for CgiError {
    fn from(error: OpenError) -> Self {
        Self::new(Errcode::CannotDecrypt, format!("encrypt: {error}"))
    }
}
