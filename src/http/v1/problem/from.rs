//! Only this file turns the errors of the layers below into problems. The matches have no `_` arm,
//! so a new error does not compile until it has a code.

use chrono::SecondsFormat;

use super::body::Problem;
use super::code::Code;
use crate::domain::RuleViolation;
use crate::http::auth::authenticate::AuthRejection;
use crate::http::body::BodyError;
use crate::http::middleware::timeout::NoResponse;
use crate::http::shared::error_text;
use crate::http::shared::retry_after::retry_after_seconds;
use crate::http::uri::UriTooLong;
use crate::service::{AuthError, Error};

/// The header whose condition [`Error::VersionNotReached`] violates.
const MIN_VERSION: &str = "Muster-Min-Version";

/// The header whose condition [`Error::CursorNotReached`] violates.
const MIN_CURSOR: &str = "Muster-Min-Cursor";
/// The path that begins again after [`Error::CursorExpired`].
const SNAPSHOT: &str = "/v1/events?snapshot=true";

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(error) => error.into(),
            Error::Rejected(violation) => violation.into(),
            Error::SessionNotFound => {
                Self::for_field(Code::SessionNotFound, "sessionId", error_text::NO_SUCH_SESSION)
            }
            Error::VersionNotFound => {
                Self::for_field(Code::VersionNotFound, "version", "the session has no such version")
            }
            Error::VersionNotReached { current, min } => {
                let reason =
                    format!("must be at most {current}, the version of the session, got {min}");
                Self::for_field(Code::VersionNotReached, MIN_VERSION, reason)
                    .with_current_version(current)
            }
            Error::TimeNotSettled { settled_until, at } => {
                let [until, at] =
                    [settled_until, at].map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true));
                let reason = format!(
                    "must be at most {until}, up to which all changes are committed, got {at}"
                );
                Self::for_field(Code::TimeNotSettled, "at", reason).with_retry_after(1)
            }
            Error::CursorExpired => {
                let reason = format!(
                    "expired, the history of the database is another one; begin again with {SNAPSHOT}"
                );
                Self::for_field(Code::CursorExpired, "after", reason).with_link(SNAPSHOT)
            }
            Error::CursorNotReached => {
                let reason = "the server does not have the changes up to it yet";
                Self::for_field(Code::CursorNotReached, MIN_CURSOR, reason).with_retry_after(1)
            }
            Error::MemberNotFound { .. } => {
                Self::for_field(Code::MemberNotFound, "account", &error)
            }
            Error::IdempotencyKeyReused => {
                Self::for_field(Code::IdempotencyKeyReused, "Idempotency-Key", &error)
            }
            Error::Contention => {
                Self::for_field(Code::TooManyChanges, "sessionId", error_text::TOO_MANY_CHANGES)
                    .with_retry_after(1)
            }
            Error::Unavailable(error) => Self::new(Code::Unavailable, error_text::UNAVAILABLE)
                .with_retry_after(1)
                .with_cause(&error),
            Error::Overloaded { wait } => Self::new(Code::Overloaded, error_text::OVERLOADED)
                .with_retry_after(retry_after_seconds(wait)),
            Error::ConsumerNotFound => {
                Self::for_field(Code::ConsumerNotFound, "name", "no such consumer")
            }
            Error::ConsumerExpired => {
                let reason = format!(
                    "expired, the history of the database is another one; begin again with {SNAPSHOT} \
                     and reset the consumer"
                );
                Self::for_field(Code::CursorExpired, "name", reason).with_link(SNAPSHOT)
            }
            Error::TooManyConsumers { max } => {
                Self::for_field(Code::TooManyConsumers, "name", &error).with_limit(max, max + 1)
            }
            Error::TooManyWaits { max } => {
                let detail = format!("{error}, try again when one has ended");
                Self::new(Code::TooManyRequests, detail).with_max(max).with_retry_after(1)
            }
            Error::TooManyComparisons { max } => {
                let detail = format!("{error}, try again when one has ended");
                Self::new(Code::TooManyRequests, detail).with_max(max).with_retry_after(1)
            }
            Error::TooManyStreams { max, .. } => {
                let detail = format!("{error}, try again when one has ended");
                Self::new(Code::TooManyRequests, detail).with_max(max).with_retry_after(5)
            }
            Error::StatementTimeout(error) => {
                Self::new(Code::Unavailable, error_text::STATEMENT_TIMEOUT)
                    .with_retry_after(1)
                    .with_cause(&error)
            }
            Error::OutcomeUnknown(error) => Self::new(Code::TimedOut, error_text::OUTCOME_UNKNOWN)
                .with_retry_after(1)
                .with_cause(&error),
            Error::Internal(error) => Self::internal(&error),
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let (code, reason) = match error {
            AuthError::MissingToken => (Code::MissingApiKey, "must be `Bearer` and an API key"),
            AuthError::UnknownToken => {
                (Code::InvalidApiKey, "the API key is unknown or revoked, or its app is disabled")
            }
            AuthError::ExpiredKey => (Code::InvalidApiKey, "the API key has expired"),
            AuthError::ForeignNetwork => {
                (Code::InvalidApiKey, "the API key may not be used from this network")
            }
            // Only access tokens and requests for them cause these errors. This API has neither.
            AuthError::ExpiredToken
            | AuthError::UnknownApp
            | AuthError::WrongEnterprise
            | AuthError::InvalidProof { .. } => (Code::InvalidApiKey, "not an API key"),
            AuthError::MissingPermission(_)
            | AuthError::KeyLacksPermission(_)
            | AuthError::FormNotAllowed(_) => {
                return Self::new(Code::MissingPermission, error.to_string());
            }
        };
        Self::for_field(code, "Authorization", reason)
    }
}

impl From<RuleViolation> for Problem {
    fn from(violation: RuleViolation) -> Self {
        let (code, field) = match &violation {
            RuleViolation::NotAMember { .. } => (Code::NotAMember, "operator"),
            RuleViolation::RemovalNotAllowed { .. } => (Code::NotTheOwner, "delMember"),
            RuleViolation::OwnerOnly { .. } => (Code::NotTheOwner, "operator"),
            RuleViolation::MissingReason => (Code::MissingReason, "reason"),
            RuleViolation::OwnerNotAMember { .. } => (Code::OwnerNotAMember, "owner"),
            RuleViolation::AttributesTooLarge { .. } => (Code::AttributesTooLarge, "attributes"),
            RuleViolation::AddedAndRemoved { .. } => (Code::AddedAndRemoved, "delMember"),
            RuleViolation::TooFewMembers { .. } => (Code::TooFewMembers, "member"),
            RuleViolation::TooManyMembers { .. } => (Code::TooManyMembers, "member"),
            RuleViolation::Dissolved => (Code::SessionDissolved, "sessionId"),
            RuleViolation::VersionConflict { .. } => (Code::VersionConflict, "version"),
            RuleViolation::VersionExcluded { .. } => (Code::PreconditionFailed, "If-None-Match"),
        };
        let problem = Self::for_field(code, field, &violation);
        match violation {
            RuleViolation::TooFewMembers { min: limit, got }
            | RuleViolation::TooManyMembers { max: limit, got }
            | RuleViolation::AttributesTooLarge { max: limit, got } => {
                problem.with_limit(limit, got)
            }
            RuleViolation::VersionConflict { current, .. }
            | RuleViolation::VersionExcluded { current } => problem.with_current_version(current),
            RuleViolation::NotAMember { .. }
            | RuleViolation::RemovalNotAllowed { .. }
            | RuleViolation::OwnerOnly { .. }
            | RuleViolation::MissingReason
            | RuleViolation::OwnerNotAMember { .. }
            | RuleViolation::AddedAndRemoved { .. }
            | RuleViolation::Dissolved => problem,
        }
    }
}

impl From<AuthRejection> for Problem {
    fn from(rejection: AuthRejection) -> Self {
        match rejection {
            AuthRejection::Error(error) => error.into(),
            // This API has no sealed texts, so no request of it is throttled.
            AuthRejection::Throttled { wait, max }
            | AuthRejection::SealedThrottled { wait, max } => {
                let reason = format!(
                    "at most {max} invalid API keys from an address without a wait, got more"
                );
                Self::for_field(Code::TooManyFailedAttempts, "Authorization", reason)
                    .with_max(max)
                    .with_retry_after(retry_after_seconds(wait))
            }
            AuthRejection::RateLimited { wait, max } => {
                let reason =
                    format!("the request rate of the app is at most {max} per second, got more");
                Self::for_field(Code::TooManyRequests, "Authorization", reason)
                    .with_max(max)
                    .with_retry_after(retry_after_seconds(wait))
            }
            AuthRejection::TooManyOpen => {
                Self::new(Code::Overloaded, error_text::TOO_MANY_OPEN).with_retry_after(1)
            }
            AuthRejection::NotConfigured => Self::internal(&std::io::Error::other(
                "the router has no RequestAuth or Authenticator",
            )),
        }
    }
}

impl From<NoResponse> for Problem {
    fn from(error: NoResponse) -> Self {
        match error {
            NoResponse::TimedOut { .. } => {
                Self::new(Code::TimedOut, error.to_string()).with_retry_after(1).with_cause(&error)
            }
            NoResponse::ClientClosed { .. } => {
                Self::new(Code::ClientClosedRequest, error.to_string())
            }
            NoResponse::TooManyUnread => {
                Self::new(Code::Overloaded, error.to_string()).with_retry_after(1)
            }
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let code = match &error {
            BodyError::TooLarge { .. } => Code::BodyTooLarge,
            BodyError::Timeout { .. } => Code::BodyTimeout,
            BodyError::Incomplete => Code::BodyIncomplete,
            BodyError::OverBudget => Code::Overloaded,
            BodyError::NotConfigured => return Self::internal(&error),
        };
        let problem = Self::for_field(code, "body", &error);
        match error {
            BodyError::TooLarge { max, got: Some(got) } => problem.with_limit(max, got),
            BodyError::TooLarge { max, got: None } => problem.with_max(max),
            BodyError::OverBudget => problem.with_retry_after(1),
            BodyError::Timeout { .. } | BodyError::Incomplete | BodyError::NotConfigured => problem,
        }
    }
}

impl From<UriTooLong> for Problem {
    fn from(error: UriTooLong) -> Self {
        let problem = Self::new(Code::UriTooLong, error.to_string());
        problem.with_limit(error.max, error.got)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::ResponseError as _;
    use actix_web::body::MessageBody as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{Account, MessageForm, Permission, Version};

    /// The status, the headers except `content-type`, and the body without `type`, `status` and
    /// `title`.
    fn response_parts(problem: impl Into<Problem>) -> (u16, Vec<(String, String)>, Value) {
        let response = problem.into().error_response();
        let is_relevant = |name: &str| name != "content-type";
        let headers = response.headers().iter().filter(|(name, _)| is_relevant(name.as_str()));
        let text = |(name, value): (&actix_web::http::header::HeaderName, _)| {
            let value: &actix_web::http::header::HeaderValue = value;
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        let headers = headers.map(text).collect();
        let kind = response.headers().get("content-type").unwrap();
        assert_eq!(kind, "application/problem+json");
        let status = response.status().as_u16();
        let body = response.into_body().try_into_bytes().unwrap();
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        let fields = body.as_object_mut().unwrap();
        let kind = fields.remove("type").unwrap();
        assert_eq!(kind, format!("urn:muster:problem:{}", fields["code"].as_str().unwrap()));
        assert_eq!(fields.remove("status"), Some(json!(status)));
        assert!(fields.remove("title").unwrap().is_string());
        (status, headers, body)
    }

    #[test]
    fn version_conflict_reports_the_current_version() {
        let (expected, current) = (Version::new(4).unwrap(), Version::new(5).unwrap());
        let expected = expected.into();
        let conflict = RuleViolation::VersionConflict { expected, current };
        let (status, headers, body) = response_parts(Error::Rejected(conflict));
        assert_eq!((status, headers), (412, vec![("etag".to_owned(), "\"5\"".to_owned())]));
        let detail = "version: expected 4, the current version is 5";
        let expected_body = json!({
            "code": "version_conflict", "detail": detail, "field": "version", "currentVersion": 5
        });
        assert_eq!(body, expected_body);
    }

    #[test]
    fn each_rule_violation_has_its_status() {
        let carol = || Account::new("carol").unwrap();
        for (violation, status, code) in [
            (RuleViolation::NotAMember { operator: carol() }, 403, "not_a_member"),
            (RuleViolation::RemovalNotAllowed { account: carol() }, 403, "not_the_owner"),
            (RuleViolation::AddedAndRemoved { account: carol() }, 422, "added_and_removed"),
            (RuleViolation::Dissolved, 410, "session_dissolved"),
        ] {
            let (found, headers, body) = response_parts(violation);
            assert_eq!((found, &body["code"]), (status, &json!(code)));
            assert!(headers.is_empty() && body.get("limit").is_none(), "{headers:?} {body}");
        }
        for (violation, code, limit) in [
            (RuleViolation::TooFewMembers { min: 3, got: 2 }, "too_few_members", 3),
            (RuleViolation::TooManyMembers { max: 1, got: 2 }, "too_many_members", 1),
        ] {
            let (status, _, body) = response_parts(violation);
            assert_eq!((status, &body["code"]), (422, &json!(code)));
            assert_eq!((&body["limit"], &body["got"]), (&json!(limit), &json!(2)));
        }
    }

    #[test]
    fn auth_errors_have_their_status_and_challenge() {
        let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let invalid = header("www-authenticate", "Bearer error=\"invalid_token\"");
        for (error, status, headers) in [
            (AuthError::MissingToken, 401, header("www-authenticate", "Bearer")),
            (AuthError::UnknownToken, 401, invalid.clone()),
            (AuthError::ExpiredToken, 401, invalid.clone()),
            (AuthError::ExpiredKey, 401, invalid.clone()),
            (AuthError::ForeignNetwork, 401, invalid),
            (AuthError::KeyLacksPermission(Permission::SessionsRead), 403, vec![]),
            (AuthError::MissingPermission(Permission::SessionsRead), 403, vec![]),
            (AuthError::FormNotAllowed(MessageForm::Plain), 403, vec![]),
        ] {
            let (found, found_headers, body) = response_parts(error);
            assert_eq!((found, found_headers), (status, headers), "{body}");
        }
        let (status, headers, _) = response_parts(Error::Contention);
        assert_eq!((status, headers), (503, header("retry-after", "1")));
    }

    #[test]
    fn temporary_errors_have_retry_after() {
        let wait = Duration::from_millis(2_500);
        let late = || std::sync::Arc::new(crate::repository::Error::OutcomeUnknown(wait));
        for (error, status, code, seconds) in [
            (Problem::from(Error::Overloaded { wait }), 503, "overloaded", "3"),
            (Error::StatementTimeout(late()).into(), 503, "unavailable", "1"),
            (Error::OutcomeUnknown(late()).into(), 504, "timed_out", "1"),
            (AuthRejection::RateLimited { wait, max: 50 }.into(), 429, "too_many_requests", "3"),
            (
                AuthRejection::Throttled { wait, max: 10 }.into(),
                429,
                "too_many_failed_attempts",
                "3",
            ),
        ] {
            let (found, headers, body) = response_parts(error);
            assert_eq!((found, &body["code"]), (status, &json!(code)));
            assert_eq!(headers, [("retry-after".to_owned(), seconds.to_owned())]);
        }
    }

    #[test]
    fn body_error_states_the_limit() {
        let too_large = |got| response_parts(BodyError::TooLarge { max: 10, got });
        let (status, _, body) = too_large(None);
        assert_eq!((status, &body["limit"]), (413, &json!(10)));
        assert_eq!(body["detail"], "body: at most 10 bytes, got more");
        let (_, _, body) = too_large(Some(11));
        assert_eq!((&body["limit"], &body["got"]), (&json!(10), &json!(11)));
        assert_eq!(body["detail"], "body: at most 10 bytes, got 11");
        let (status, _, body) =
            response_parts(BodyError::Timeout { timeout: Duration::from_secs(3) });
        assert_eq!((status, &body["detail"]), (408, &json!("body: must arrive within 3s")));
        let (status, headers, body) = response_parts(BodyError::OverBudget);
        assert_eq!((status, &body["code"]), (503, &json!("overloaded")));
        assert_eq!(headers, [("retry-after".to_owned(), "1".to_owned())]);
        let (status, _, body) = response_parts(BodyError::NotConfigured);
        assert_eq!(status, 500);
        assert_eq!(body, json!({ "code": "internal_error", "detail": "internal error" }));
    }
}
