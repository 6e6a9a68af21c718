//! Only this file turns the errors of the layers below into error codes. The matches have no `_`
//! arm, so a new error does not compile until it has a code.

use actix_web::http::StatusCode;

use super::CgiError;
use crate::domain::RuleViolation;
use crate::http::auth::authenticate::AuthRejection;
use crate::http::body::BodyError;
use crate::http::middleware::timeout::{CLIENT_CLOSED_REQUEST, NoResponse};
use crate::http::shared::error_text;
use crate::http::shared::idempotency;
use crate::http::shared::retry_after::retry_after_seconds;
use crate::http::uri::UriTooLong;
use crate::service::{AuthError, Error};
use crate::wire::{Errcode, FieldError, OpenError};

impl From<Error> for CgiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(error) => error.into(),
            Error::Rejected(violation) => violation.into(),
            Error::SessionNotFound => {
                let errmsg = format!("sessionId: {}", error_text::NO_SUCH_SESSION);
                Self::without_values(Errcode::SessionUnknown, errmsg)
            }
            // No endpoint of this API causes this error or any of the next nine.
            Error::VersionNotFound => {
                Self::new(Errcode::BadRequest, "version: the session has no such version")
            }
            Error::VersionNotReached { .. }
            | Error::TimeNotSettled { .. }
            | Error::CursorExpired
            | Error::CursorNotReached
            | Error::MemberNotFound { .. }
            | Error::ConsumerNotFound
            | Error::ConsumerExpired
            | Error::TooManyConsumers { .. }
            | Error::TooManyWaits { .. } => Self::new(Errcode::BadRequest, error.to_string()),
            Error::IdempotencyKeyReused => {
                let errmsg = format!("{}: used for another request", idempotency::HEADER_NAME);
                Self::without_values(Errcode::BadRequest, errmsg)
            }
            Error::Contention => {
                let errmsg = format!("sessionId: {}", error_text::TOO_MANY_CHANGES);
                Self::unavailable(errmsg).shown_to_sealed()
            }
            Error::Unavailable(error) => {
                Self::unavailable(error_text::UNAVAILABLE).with_cause(&error)
            }
            Error::Overloaded { wait } => Self::unavailable(error_text::OVERLOADED)
                .with_retry_after(retry_after_seconds(wait)),
            // This API has no comparisons and no streams.
            Error::TooManyComparisons { .. } | Error::TooManyStreams { .. } => {
                Self::unavailable(error.to_string())
            }
            Error::StatementTimeout(error) => {
                Self::unavailable(error_text::STATEMENT_TIMEOUT).with_cause(&error)
            }
            Error::OutcomeUnknown(error) => {
                Self::timed_out(error_text::OUTCOME_UNKNOWN).with_cause(&error)
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
            AuthError::ExpiredToken | AuthError::ExpiredKey => Errcode::TokenExpired,
            AuthError::UnknownApp => Errcode::InvalidAppId,
            AuthError::WrongEnterprise => Errcode::BuinWrong,
            AuthError::InvalidProof { .. } => Errcode::CannotDecrypt,
            AuthError::ForeignNetwork
            | AuthError::MissingPermission(_)
            | AuthError::KeyLacksPermission(_)
            | AuthError::FormNotAllowed(_) => Errcode::NoRight,
        };
        let field = match error {
            AuthError::MissingToken
            | AuthError::UnknownToken
            | AuthError::ExpiredToken
            | AuthError::ExpiredKey
            | AuthError::ForeignNetwork
            | AuthError::KeyLacksPermission(_) => "accessToken",
            AuthError::UnknownApp
            | AuthError::MissingPermission(_)
            | AuthError::FormNotAllowed(_) => "appId",
            AuthError::WrongEnterprise => "buin",
            AuthError::InvalidProof { .. } => "encrypt",
        };
        let mut result = Self::without_values(errcode, format!("{field}: {error}"));
        if let AuthError::InvalidProof { fault, .. } = error {
            result.reason = Some(fault.to_string().into());
        }
        result
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
            RuleViolation::VersionConflict { .. } | RuleViolation::VersionExcluded { .. } => {
                (Errcode::VersionConflict, "version")
            }
        };
        Self::new(errcode, format!("{field}: {violation}"))
            .with_sealed_errmsg(format!("{field}: {}", violation.without_values()))
    }
}

impl From<AuthRejection> for CgiError {
    fn from(rejection: AuthRejection) -> Self {
        match rejection {
            AuthRejection::Error(error) => error.into(),
            AuthRejection::Throttled { wait, max } => {
                let errmsg = format!(
                    "accessToken: at most {max} invalid attempts from an address without a wait, \
                     got more"
                );
                Self::throttled(errmsg, wait)
            }
            AuthRejection::SealedThrottled { wait, max } => {
                let errmsg = format!(
                    "encrypt: at most {max} texts that cannot be opened from an address without a \
                     wait, got more"
                );
                Self::throttled(errmsg, wait)
            }
            AuthRejection::RateLimited { wait, max } => {
                let errmsg =
                    format!("appId: the request rate is at most {max} per second, got more");
                Self::throttled(errmsg, wait)
            }
            AuthRejection::TooManyOpen => Self::unavailable(error_text::TOO_MANY_OPEN),
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
            NoResponse::TooManyUnread => Self::unavailable(error.to_string()),
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
            BodyError::OverBudget => return Self::unavailable(format!("body: {error}")),
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
        Self::new(Errcode::BadRequest, error.to_string()).with_sealed_errmsg(error.without_value())
    }
}

impl From<OpenError> for CgiError {
    fn from(error: OpenError) -> Self {
        Self::without_values(Errcode::CannotDecrypt, format!("encrypt: {error}"))
    }
}
