//! Parameters in the path.
//!
//! actix decodes a path before it matches the path, and replaces invalid UTF-8. Therefore a
//! parameter is taken from the raw path, at its place in the pattern.

use std::borrow::Cow;

use actix_web::HttpRequest;
use utoipa::PartialSchema as _;
use utoipa::openapi::path::{Parameter, ParameterBuilder};

use super::parameter::{in_path, text};
use super::part::RequestPart;
use super::percent;
use super::request_record::record_session;
use super::text::AccountText;
use crate::domain::{Account, ConsumerName, SessionId};
use crate::http::v1::problem::{Code, ErrorCodes, Problem};

/// The accepted forms of a session id.
pub(crate) const ID_PATTERN: &str = "^([0-9A-Fa-f]{32}|\\{[0-9A-Fa-f]{32}\\}\
                                     |[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\
                                     |\\{[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\\})$";
const ID_EXAMPLE: &str = "8ad595f3-73b3-4b56-90af-f336f9222fc5";
/// The names of consumers and of their members.
pub(crate) const CONSUMER_NAME_PATTERN: &str = "^[A-Za-z0-9._-]{1,64}$";

/// The session in a path: `{sessionId}` in the pattern.
#[derive(Debug)]
pub(crate) struct SessionPath(pub(crate) SessionId);

/// The member in a path: `{account}` in the pattern.
#[derive(Debug)]
pub(crate) struct MemberPath(pub(crate) Account);

/// The same, for a request that adds or removes the member. The example is another account, because
/// the account that the other examples act for is the owner of the session.
#[derive(Debug)]
pub(crate) struct ChangedMemberPath(pub(crate) Account);

/// The consumer in a path: `{name}` in the pattern.
#[derive(Debug)]
pub(crate) struct ConsumerPath(pub(crate) ConsumerName);

impl ErrorCodes for SessionPath {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidSessionId]
    }
}

impl RequestPart for SessionPath {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        const NAME: &str = "sessionId";
        let text = segment(request, "{sessionId}");
        let text = text.map_err(|error| Problem::for_field(Code::InvalidSessionId, NAME, error))?;
        let id = text.parse();
        let id = id.map_err(|error| Problem::invalid(Code::InvalidSessionId, NAME, &error))?;
        record_session(request, id);
        Ok(Self(id))
    }

    fn parameters() -> Vec<Parameter> {
        let description = "The session: a UUID with or without hyphens and braces, in either case.";
        vec![in_path("sessionId", description, text(ID_PATTERN, ID_EXAMPLE))]
    }
}

impl ErrorCodes for MemberPath {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidParameter]
    }
}

impl RequestPart for MemberPath {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        account(request).map(Self)
    }

    fn parameters() -> Vec<Parameter> {
        vec![described_account("alice")]
    }
}

impl ErrorCodes for ChangedMemberPath {
    fn codes() -> Vec<Code> {
        MemberPath::codes()
    }
}

impl RequestPart for ChangedMemberPath {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        account(request).map(Self)
    }

    fn parameters() -> Vec<Parameter> {
        vec![described_account("dave")]
    }
}

impl ErrorCodes for ConsumerPath {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidParameter]
    }
}

impl RequestPart for ConsumerPath {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        const NAME: &str = "name";
        let text = segment(request, "{name}");
        let text = text.map_err(|error| Problem::for_field(Code::InvalidParameter, NAME, error))?;
        let name = text.parse();
        name.map(Self).map_err(|error| Problem::invalid(Code::InvalidParameter, NAME, &error))
    }

    fn parameters() -> Vec<Parameter> {
        let schema = text(CONSUMER_NAME_PATTERN, "mirror");
        let parameter = in_path("name", "The consumer, by its name within the app.", schema);
        vec![ParameterBuilder::from(parameter).example(Some("mirror".into())).build()]
    }
}

fn account(request: &HttpRequest) -> Result<Account, Problem> {
    const NAME: &str = "account";
    let text = segment(request, "{account}");
    let text = text.map_err(|error| Problem::for_field(Code::InvalidParameter, NAME, error))?;
    Account::new(&text).map_err(|error| Problem::invalid(Code::InvalidParameter, NAME, &error))
}

fn described_account(example: &str) -> Parameter {
    let parameter = in_path("account", "The member, percent-encoded.", AccountText::schema());
    ParameterBuilder::from(parameter).example(Some(example.into())).build()
}

/// The segment of the path at the place of `name`, with its braces, in the pattern. The segment is
/// empty if the pattern has no such name.
fn segment<'a>(request: &'a HttpRequest, name: &str) -> Result<Cow<'a, str>, percent::DecodeError> {
    let pattern = request.match_pattern().unwrap_or_default();
    let index = pattern.split('/').position(|part| part == name);
    let part = index.and_then(|index| request.uri().path().split('/').nth(index));
    percent::decode(part.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;
    use actix_web::test::{TestRequest, call_service, init_service};
    use actix_web::{App, HttpResponse, web};

    use super::*;

    async fn handler(request: HttpRequest) -> Result<HttpResponse, Problem> {
        let SessionPath(id) = SessionPath::read(&request, b"")?;
        Ok(HttpResponse::Ok().body(id.to_string()))
    }

    #[tokio::test]
    async fn path_accepts_every_form_of_a_session_id() {
        let route = web::resource("/sessions/{sessionId}/events").to(handler);
        let app = init_service(App::new().service(web::scope("/v1").service(route))).await;
        for (part, status) in [
            ("8AD595F3-73B3-4B56-90AF-F336F9222FC5", StatusCode::OK),
            ("%7B8ad595f3-73b3-4b56-90af-f336f9222fc5%7d", StatusCode::OK),
            ("8ad595f373b34b5690aff336f9222fc5", StatusCode::OK),
            ("%38ad595f373b34b5690aff336f9222fc5", StatusCode::OK),
            ("%7B8AD595F3-73B3-4B56-90AF-F336F9222FC5", StatusCode::BAD_REQUEST),
            ("8AD595F3", StatusCode::BAD_REQUEST),
            ("%ff", StatusCode::BAD_REQUEST),
            ("%2F", StatusCode::BAD_REQUEST),
            ("%zz", StatusCode::BAD_REQUEST),
        ] {
            let request = TestRequest::with_uri(&format!("/v1/sessions/{part}/events"));
            let response = call_service(&app, request.to_request()).await;
            assert_eq!(response.status(), status, "{part}");
        }
    }
}
