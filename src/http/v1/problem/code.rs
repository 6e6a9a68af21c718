//! The codes of problems: what programs tell outcomes apart by. They stay as they are; new ones may
//! come.

use actix_web::http::StatusCode;
use serde::{Serialize, Serializer};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};
use utoipa::{PartialSchema, ToSchema};

use crate::http::middleware::timeout::ABANDONED;

/// One row for each code, from which all that is said of codes is made.
macro_rules! codes {
    ($($code:ident $name:literal $status:tt $title:literal $sample:literal)*) => {
        /// What kind of problem it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code { $(#[doc = $title] $code),* }

        impl Code {
            /// Every code, by status.
            pub(crate) const ALL: &[Self] = &[$(Self::$code),*];

            /// The stable name.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$code => $name),* }
            }

            /// The status of the answer.
            pub(crate) fn status(self) -> StatusCode {
                let number = match self { $(Self::$code => $status),* };
                StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// The same few words for every problem of this kind.
            pub(crate) fn title(self) -> &'static str {
                match self { $(Self::$code => $title),* }
            }

            /// A detail as it might be, for the documentation.
            pub(crate) fn sample(self) -> &'static str {
                match self { $(Self::$code => $sample),* }
            }
        }
    };
}

codes! {
    MalformedBody "malformed_body" 400 "The body is not a JSON object"
        "body: expected `,` or `}` at line 1 column 17"
    BodyBroken "body_broken" 400 "The body did not arrive whole"
        "body: did not arrive whole"
    InvalidField "invalid_field" 400 "A field has a value that it cannot have"
        "title: at most 64 characters, got 65"
    MissingField "missing_field" 400 "A field is missing"
        "title: is missing"
    UnknownField "unknown_field" 400 "There is no such field"
        "titel: is unknown, expected `title` or `owner`"
    DuplicateField "duplicate_field" 400 "A field stands twice"
        "title: stands twice"
    MalformedQuery "malformed_query" 400 "The query is not percent-encoded UTF-8"
        "query: `%` must be followed by two hexadecimal digits"
    InvalidParameter "invalid_parameter" 400 "A parameter has a value that it cannot have"
        "limit: at most 200, got 201"
    MissingParameter "missing_parameter" 400 "A parameter is missing"
        "to: is missing"
    UnknownParameter "unknown_parameter" 400 "There is no such parameter"
        "verbose: is unknown, expected `limit` or `cursor`"
    DuplicateParameter "duplicate_parameter" 400 "A parameter stands twice"
        "limit: stands twice"
    InvalidSessionId "invalid_session_id" 400 "The session id is no UUID"
        "sessionId: must be a UUID"
    InvalidHeader "invalid_header" 400 "A header has a value that it cannot have"
        "If-Match: must be * or a list of entity tags such as \"5\""
    ApiKeyMissing "api_key_missing" 401 "An API key is needed"
        "Authorization: must be `Bearer` and an API key"
    ApiKeyInvalid "api_key_invalid" 401 "The API key is not valid"
        "Authorization: the API key is unknown or revoked, or its app is disabled"
    PermissionMissing "permission_missing" 403 "The app lacks a permission"
        "the app lacks the permission sessions:write"
    NotAMember "not_a_member" 403 "Only members may do this"
        "operator: dave is no member of this session"
    NotTheOwner "not_the_owner" 403 "Only the owner may do this"
        "delMember: only the owner may remove carol"
    NoSuchPath "no_such_path" 404 "There is no such path"
        "path: there is no such call"
    NoSuchSession "no_such_session" 404 "There is no such session"
        "sessionId: there is no such session"
    NoSuchVersion "no_such_version" 404 "The session never had this version, or not yet"
        "version: the session has, or had, no such version"
    NoSuchMember "no_such_member" 404 "There is no such member"
        "account: the session has no such member"
    MethodNotAllowed "method_not_allowed" 405 "The method is not allowed here"
        "method: only GET, HEAD"
    BodyTooSlow "body_too_slow" 408 "The body came too slowly"
        "body: must arrive within 4s"
    SessionDissolved "session_dissolved" 410 "The session is dissolved"
        "sessionId: the session is dissolved"
    VersionConflict "version_conflict" 412 "The session has another version"
        "If-Match: expected 1, the current version is 2"
    BodyTooLarge "body_too_large" 413 "The body is too large"
        "body: at most 1048576 bytes"
    UriTooLong "uri_too_long" 414 "The path and query are too long"
        "path and query must have at most 8192 bytes, got 9000"
    UnsupportedMediaType "unsupported_media_type" 415 "The body must be plain JSON"
        "Content-Type: must be application/json"
    AddedAndRemoved "added_and_removed" 422 "An account is both added and removed"
        "delMember: carol stands in addMember as well"
    ReasonMissing "reason_missing" 422 "A reason is needed"
        "reason: must be given by whoever acts with more rights than a member"
    OwnerNotAMember "owner_not_a_member" 422 "The new owner must be a member"
        "owner: dave is no member of this session"
    AttributesTooLarge "attributes_too_large" 422 "The attributes are too large"
        "attributes: at most 16384 bytes as compact JSON, got 16385"
    KeyReused "idempotency_key_reused" 422 "The key was used for another request"
        "Idempotency-Key: was used for another request before"
    TooFewMembers "too_few_members" 422 "Too few members"
        "member: at least 3 members, creator included; got 2"
    TooManyMembers "too_many_members" 422 "Too many members"
        "member: at most 2000 members, got 2001"
    TooManyRequests "too_many_requests" 429 "The app makes too many requests"
        "the app makes too many requests, try again"
    TooManyFailures "too_many_failures" 429 "Too many API keys were not valid"
        "Authorization: too many API keys that are not valid came from this address"
    Abandoned "abandoned" ABANDONED "The connection was closed before there was an answer"
        "the connection was closed before there was an answer; whether it was done is not known"
    Internal "internal_error" 500 "Something in the service failed"
        "internal error"
    Contended "too_many_changes" 503 "Too many changes at once"
        "sessionId: too many changes of this session at once, try again"
    Unavailable "unavailable" 503 "The service is not available"
        "the service is not available, try again"
    Overloaded "overloaded" 503 "Too many requests wait already"
        "the service is overloaded, try again"
    TimedOut "timed_out" 504 "There was no answer in time"
        "no answer within 10s; whether it was done is not known"
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
            .description(Some("The kind of problem, for programs. New ones may come."))
            .enum_values(Some(Self::ALL.iter().map(|code| code.name())))
            .into()
    }
}

impl ToSchema for Code {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own_in_order_of_status() {
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
