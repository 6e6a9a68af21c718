//! What a client gets instead of a result: an `errcode` and an `errmsg` that names the field.
//!
//! This is the one place where the errors of the rooms below become error codes. The matches have
//! no `_` arm: who adds an error decides its code.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::ALLOW;
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;

use crate::domain::{Invalid, Refusal};
use crate::http::auth::authenticate::Barred;
use crate::http::body::BodyError;
use crate::http::endpoint::Refuses;
use crate::http::middleware::request_context::{Answered, Outcome};
use crate::http::middleware::timeout::{CLIENT_CLOSED_REQUEST, Unanswered};
use crate::http::shared::cause_chain::cause_chain;
use crate::http::shared::error_text;
use crate::http::shared::retry_after::{self, seconds};
use crate::http::uri::UriTooLong;
use crate::service::{AuthError, Error};
use crate::wire::{CannotOpen, Errcode, FieldError, Malformed};

/// An answer without a result.
#[derive(Debug)]
pub(super) struct Fault {
    errcode: Errcode,
    errmsg: String,
    status: StatusCode,
    /// The method that would have been right, where another one was used.
    allow: Option<String>,
    /// Seconds to wait before the next try, where one makes sense.
    retry_after: Option<u64>,
    /// What failed in here: the log learns it, the client does not.
    cause: Option<String>,
}

impl Fault {
    /// An outcome of this API: HTTP 200.
    pub(super) fn new(errcode: Errcode, errmsg: impl Into<String>) -> Self {
        let (status, errmsg) = (StatusCode::OK, errmsg.into());
        Self { errcode, errmsg, status, allow: None, retry_after: None, cause: None }
    }

    /// A field that is required is not there.
    pub(super) fn missing(errcode: Errcode, field: &str) -> Self {
        Self::new(errcode, format!("{field}: is missing"))
    }

    /// A field holds a value that cannot be.
    pub(super) fn invalid(field: impl fmt::Display, why: &Invalid) -> Self {
        Self::new(Errcode::BadRequest, format!("{field}: {why}"))
    }

    /// A message, the body or what was sealed in it, that is none.
    pub(super) fn malformed(place: &str, why: &Malformed) -> Self {
        let errcode = match why {
            Malformed::NotJson(_) | Malformed::NotAnObject(_) => Errcode::BadFormat,
            Malformed::Duplicate(_) | Malformed::TooManyFields(_) => Errcode::BadRequest,
        };
        let names_its_field = matches!(why, Malformed::Duplicate(_));
        let errmsg = if names_its_field { why.to_string() } else { format!("{place}: {why}") };
        Self::new(errcode, errmsg)
    }

    pub(super) fn not_found() -> Self {
        let errmsg = format!("path: {}", error_text::NO_SUCH_ENDPOINT);
        Self::new(Errcode::BadRequest, errmsg).with(StatusCode::NOT_FOUND)
    }

    /// Something in here failed.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        Self::new(Errcode::Internal, error_text::INTERNAL).because(error)
    }

    /// Keeps an error with its causes for the log.
    fn because(self, error: &dyn std::error::Error) -> Self {
        Self { cause: Some(cause_chain(error)), ..self }
    }

    fn unavailable(errmsg: impl Into<String>) -> Self {
        Self::new(Errcode::Internal, errmsg).with(StatusCode::SERVICE_UNAVAILABLE).again_after(1)
    }

    fn timed_out(errmsg: impl Into<String>) -> Self {
        Self::new(Errcode::Internal, errmsg).with(StatusCode::GATEWAY_TIMEOUT).again_after(1)
    }

    fn again_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    fn with(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.errcode.number(), self.errmsg)
    }
}

impl Refuses for Fault {
    fn method_not_allowed(allow: String) -> Self {
        let mut fault = Self::new(Errcode::BadRequest, format!("method: only {allow}"))
            .with(StatusCode::METHOD_NOT_ALLOWED);
        fault.allow = Some(allow);
        fault
    }
}

impl ResponseError for Fault {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        match self.status {
            // What is left of the body is not read.
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
        let answered = Answered::Errcode(errcode);
        response.extensions_mut().insert(Outcome { answered, cause: self.cause.clone() });
        response
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(denied) => denied.into(),
            Error::Rejected(refusal) => refusal.into(),
            Error::SessionNotFound => {
                let errmsg = format!("sessionId: {}", error_text::NO_SUCH_SESSION);
                Self::new(Errcode::SessionUnknown, errmsg)
            }
            // No call of this API asks for these.
            Error::VersionNotFound => {
                Self::new(Errcode::BadRequest, "version: the session has no such version")
            }
            Error::MemberNotFound => {
                Self::new(Errcode::BadRequest, "member: not a member of the session")
            }
            Error::IdempotencyKeyReused => Self::new(Errcode::BadRequest, format!("key: {error}")),
            Error::Contention => Self::unavailable(format!("sessionId: {}", error_text::CONTENDED)),
            Error::Unavailable(error) => Self::unavailable(error_text::UNAVAILABLE).because(&error),
            Error::Overloaded { wait } => {
                Self::unavailable(error_text::OVERLOADED).again_after(seconds(wait))
            }
            Error::StatementTimeout(error) => {
                Self::unavailable(error_text::TOO_SLOW).because(&error)
            }
            Error::OutcomeUnknown(error) => Self::timed_out(error_text::UNANSWERED).because(&error),
            Error::Internal(error) => Self::internal(&error),
        }
    }
}

impl From<AuthError> for Fault {
    fn from(denied: AuthError) -> Self {
        let errcode = match denied {
            AuthError::MissingToken => Errcode::TokenEmpty,
            AuthError::UnknownToken => Errcode::TokenUnknown,
            AuthError::ExpiredToken => Errcode::TokenExpired,
            AuthError::UnknownApp => Errcode::InvalidAppId,
            AuthError::WrongEnterprise => Errcode::BuinWrong,
            // The time is what was sealed: it is told apart from a bad envelope by nothing.
            AuthError::ClockSkew => return CannotOpen.into(),
            AuthError::Permission(_) => Errcode::NoRight,
        };
        let field = match denied {
            AuthError::MissingToken | AuthError::UnknownToken | AuthError::ExpiredToken => {
                "accessToken"
            }
            AuthError::UnknownApp | AuthError::Permission(_) => "appId",
            AuthError::WrongEnterprise => "buin",
            AuthError::ClockSkew => "encrypt",
        };
        Self::new(errcode, format!("{field}: {denied}"))
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let (errcode, field) = match &refusal {
            Refusal::NotAMember { .. } => (Errcode::IllegalAccess, "opUser"),
            Refusal::MayNotRemove { .. } => (Errcode::IllegalAccess, "delMember"),
            Refusal::OnlyTheOwner { .. } => (Errcode::IllegalAccess, "opUser"),
            Refusal::ReasonMissing => (Errcode::BadRequest, "reason"),
            Refusal::OwnerNotAMember { .. } => (Errcode::BadRequest, "owner"),
            Refusal::AttributesTooLarge { .. } => (Errcode::BadRequest, "attributes"),
            Refusal::AddedAndRemoved { .. } => (Errcode::BadRequest, "delMember"),
            Refusal::TooFewMembers { .. } => (Errcode::TooFewMembers, "member"),
            Refusal::TooManyMembers { .. } => (Errcode::TooManyMembers, "member"),
            Refusal::Dissolved => (Errcode::SessionDissolved, "sessionId"),
            Refusal::VersionConflict { .. } => (Errcode::VersionConflict, "version"),
        };
        Self::new(errcode, format!("{field}: {refusal}"))
    }
}

impl From<Barred> for Fault {
    fn from(barred: Barred) -> Self {
        let refused = |errmsg: &str, wait| {
            // No code of the protocol says this; clients take any other status for "try again".
            Self::new(Errcode::Internal, errmsg)
                .with(StatusCode::TOO_MANY_REQUESTS)
                .again_after(seconds(wait))
        };
        match barred {
            Barred::Error(error) => error.into(),
            Barred::HeldOff { wait } => {
                refused("accessToken: too many invalid attempts came from this address", wait)
            }
            Barred::TooMany { wait } => refused("appId: too many requests, try again", wait),
            Barred::NoGate => Self::internal(&std::io::Error::other("the router gives no gate")),
        }
    }
}

impl From<Unanswered> for Fault {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Late { .. } => Self::timed_out(why.to_string()).because(&why),
            Unanswered::Abandoned { .. } => {
                let status =
                    StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST);
                Self::new(Errcode::Internal, why.to_string()).with(status)
            }
        }
    }
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        let (errcode, status) = match &error {
            BodyError::TooLarge { .. } => (Errcode::BadRequest, StatusCode::PAYLOAD_TOO_LARGE),
            BodyError::TooSlow { .. } => (Errcode::BadRequest, StatusCode::REQUEST_TIMEOUT),
            BodyError::Broken => (Errcode::BadFormat, StatusCode::OK),
            BodyError::NoOptions => return Self::internal(&error),
        };
        Self::new(errcode, format!("body: {error}")).with(status)
    }
}

impl From<UriTooLong> for Fault {
    fn from(error: UriTooLong) -> Self {
        Self::new(Errcode::BadRequest, error.to_string()).with(StatusCode::URI_TOO_LONG)
    }
}

impl From<FieldError> for Fault {
    fn from(error: FieldError) -> Self {
        Self::new(Errcode::BadRequest, error.to_string())
    }
}

impl From<CannotOpen> for Fault {
    fn from(error: CannotOpen) -> Self {
        Self::new(Errcode::CannotOpen, format!("encrypt: {error}"))
    }
}
