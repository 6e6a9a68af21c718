//! The codes of problems, for programs. Codes never change; new ones may be added.

use actix_web::http::StatusCode;
use serde::{Serialize, Serializer};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};
use utoipa::{PartialSchema, ToSchema};

use crate::http::middleware::timeout::CLIENT_CLOSED_REQUEST;

/// One row for each code: its name, status, title and a sample of its detail.
macro_rules! codes {
    ($($code:ident $name:literal $status:tt $title:literal $sample:literal)*) => {
        /// The kind of a problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code { $(#[doc = $title] $code),* }

        impl Code {
            /// Every code, by status.
            pub(crate) const ALL: &[Self] = &[$(Self::$code),*];

            /// The stable name.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$code => $name),* }
            }

            /// The HTTP status of the response.
            pub(crate) fn status(self) -> StatusCode {
                let number = match self { $(Self::$code => $status),* };
                StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// Whether the service is unavailable or busy and has refused the request.
            pub(crate) fn is_refusal(self) -> bool {
                self.status() == StatusCode::SERVICE_UNAVAILABLE
            }

            /// The text that all problems with this code share.
            pub(crate) fn title(self) -> &'static str {
                match self { $(Self::$code => $title),* }
            }

            /// An example of a detail, for the documentation.
            pub(crate) fn sample(self) -> &'static str {
                match self { $(Self::$code => $sample),* }
            }
        }
    };
}

codes! {
    MalformedBody "malformed_body" 400 "The body is not a JSON object"
        "body: expected `,` or `}` at line 1 column 17"
    BodyIncomplete "body_incomplete" 400 "The body is incomplete"
        "body: incomplete, the client stopped sending or the framing is invalid"
    InvalidField "invalid_field" 400 "A field has an invalid value"
        "title: at most 64 characters, got 65"
    MissingField "missing_field" 400 "A required field is missing"
        "title: is missing"
    UnknownField "unknown_field" 400 "The endpoint has no such field"
        "titel: is unknown, expected `title` or `owner`"
    DuplicateField "duplicate_field" 400 "A field appears more than once"
        "title: appears more than once"
    MalformedQuery "malformed_query" 400 "The query is not percent-encoded UTF-8"
        "query: `%` must be followed by two hexadecimal digits"
    InvalidParameter "invalid_parameter" 400 "A parameter has an invalid value"
        "limit: at most 200, got 201"
    MissingParameter "missing_parameter" 400 "A required parameter is missing"
        "to: is missing"
    UnknownParameter "unknown_parameter" 400 "The endpoint has no such parameter"
        "verbose: is unknown, expected `limit` or `cursor`"
    DuplicateParameter "duplicate_parameter" 400 "A parameter appears more than once"
        "limit: appears more than once"
    InvalidSessionId "invalid_session_id" 400 "The session id is not a UUID"
        "sessionId: must be a UUID, got \"8ad595f3\""
    InvalidHeader "invalid_header" 400 "A header has an invalid value, or is not allowed here"
        "If-Match: must be * or a list of entity tags such as \"5\", got \"five\""
    MissingApiKey "missing_api_key" 401 "The request has no API key"
        "Authorization: must be `Bearer` and an API key"
    InvalidApiKey "invalid_api_key" 401 "The API key is not valid"
        "Authorization: the API key is unknown or revoked, or its app is disabled"
    MissingPermission "missing_permission" 403 "The app lacks a permission"
        "the app lacks the permission sessions:write"
    NotAMember "not_a_member" 403 "The operator is not a member of the session"
        "operator: dave is not a member of the session"
    NotTheOwner "not_the_owner" 403 "Only the owner may do this"
        "delMember: only the owner may remove carol"
    EndpointNotFound "endpoint_not_found" 404 "No such endpoint"
        "path: no such endpoint"
    SessionNotFound "session_not_found" 404 "No such session"
        "sessionId: no such session"
    VersionNotFound "version_not_found" 404 "The session has no such version"
        "version: the session has no such version"
    MemberNotFound "member_not_found" 404 "The account is not a member of the session"
        "account: dave is not a member of the session"
    ConsumerNotFound "consumer_not_found" 404 "The app has no such consumer"
        "name: no such consumer"
    MethodNotAllowed "method_not_allowed" 405 "The endpoint does not allow the method"
        "method: only GET, HEAD, got \"POST\""
    BodyTimeout "body_timeout" 408 "The body arrived too slowly"
        "body: must arrive within 4s"
    TimeNotSettled "time_not_settled" 409 "A change up to this time may still be committed"
        "at: must be at most 2024-06-10T06:13:29.999999Z, up to which all changes are committed, got 2024-06-10T06:13:30.500000Z"
    TooManyConsumers "too_many_consumers" 409 "The app has too many consumers"
        "name: at most 100 consumers of an app, got 101"
    SessionDissolved "session_dissolved" 410 "The session is dissolved"
        "sessionId: the session is dissolved"
    CursorExpired "cursor_expired" 410 "The history of the database is another one"
        "after: expired, the history of the database is another one; begin again with /v1/events?snapshot=true"
    VersionConflict "version_conflict" 412 "The session has another version"
        "If-Match: expected 1, the current version is 2"
    PreconditionFailed "precondition_failed" 412 "A condition of the request does not hold"
        "If-None-Match: the current version is 2"
    VersionNotReached "version_not_reached" 412 "The session has only an earlier version"
        "Muster-Min-Version: must be at most 2, the version of the session, got 3"
    CursorNotReached "cursor_not_reached" 412 "The server lacks changes up to the cursor"
        "Muster-Min-Cursor: the server does not have the changes up to it yet"
    BodyTooLarge "body_too_large" 413 "The body is too large"
        "body: at most 1048576 bytes, got 1048577"
    UriTooLong "uri_too_long" 414 "The path and query are too long"
        "path and query must have at most 8192 bytes, got 9000"
    UnsupportedMediaType "unsupported_media_type" 415 "The body must be plain JSON"
        "Content-Type: must be application/json, got \"text/plain\""
    AddedAndRemoved "added_and_removed" 422 "An account is both added and removed"
        "delMember: carol is also in addMember"
    MissingReason "missing_reason" 422 "An administrator must give a reason"
        "reason: required for a change with the rights of an administrator, got none"
    OwnerNotAMember "owner_not_a_member" 422 "The new owner must be a member"
        "owner: dave is not a member of the session"
    AttributesTooLarge "attributes_too_large" 422 "The attributes are too large"
        "attributes: at most 16384 bytes as compact JSON, got 16385"
    IdempotencyKeyReused "idempotency_key_reused" 422 "The idempotency key belongs to another request"
        "Idempotency-Key: was used for another request before"
    TooFewMembers "too_few_members" 422 "The session would have too few members"
        "member: at least 3 members in the session, got 2"
    TooManyMembers "too_many_members" 422 "The session would have too many members"
        "member: at most 2000 members, got 2001"
    TooManyRequests "too_many_requests" 429 "The app sends too many requests"
        "Authorization: the request rate of the app is at most 50 per second, got more"
    TooManyFailedAttempts "too_many_failed_attempts" 429 "Too many invalid API keys came from this address"
        "Authorization: at most 10 invalid API keys from an address without a wait, got more"
    ClientClosedRequest "client_closed_request" CLIENT_CLOSED_REQUEST "The client closed the connection before the response"
        "the client closed the connection before the response; the outcome is unknown"
    Internal "internal_error" 500 "Internal error"
        "internal error"
    TooManyChanges "too_many_changes" 503 "Too many concurrent changes of the session"
        "sessionId: too many concurrent changes of the session, try again"
    Unavailable "unavailable" 503 "The service is not available"
        "the service is not available, try again"
    Overloaded "overloaded" 503 "The service is overloaded"
        "the service is overloaded, try again"
    TimedOut "timed_out" 504 "No response in time"
        "no response within 10s; the outcome is unknown"
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "The kind of problem, for programs. Codes do not change; new ones may be added.",
            ))
            .enum_values(Some(Self::ALL.iter().map(|code| code.name())))
            .into()
    }
}

impl ToSchema for Code {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_unique_names_ordered_by_status() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        for name in &names {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.is_sorted_by_key(|code| code.status()));
        assert!(Code::ALL.iter().all(|code| code.status().as_u16() >= 400));
    }
}
