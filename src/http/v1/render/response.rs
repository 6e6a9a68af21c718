//! Responses that hold a session, with their headers, and the same in the API's description.

use std::collections::BTreeMap;

use actix_web::http::header::{ETAG, LOCATION};
use actix_web::{HttpResponse, HttpResponseBuilder};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::{ContentBuilder, Header, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema as _};

use super::view::{SessionView, WrittenView};
use crate::domain::{Session, Version};
use crate::http::shared::idempotency::{REPLAYED, REPLAYED_NAME};
use crate::http::v1::extract::parameter::text;
use crate::http::v1::extract::request_record::RequestRecord;
use crate::service::{WriteOptions, WriteOutcome};

/// The response to a read.
pub(crate) fn session(session: &Session) -> HttpResponse {
    HttpResponse::Ok().insert_header(tag(session.version)).json(SessionView::from(session))
}

/// The response to a change.
pub(crate) fn updated(outcome: &WriteOutcome, options: &WriteOptions) -> HttpResponse {
    build(HttpResponse::Ok(), outcome, options)
}

/// The response to a create. The request context records the id here: a new session had no id
/// before.
pub(crate) fn created(
    record: &RequestRecord,
    outcome: &WriteOutcome,
    options: &WriteOptions,
) -> HttpResponse {
    record.record_session(outcome.session_id);
    if options.dry_run {
        return updated(outcome, options);
    }
    let mut response = HttpResponse::Created();
    let id = outcome.session_id.uuid();
    response.insert_header((LOCATION, format!("/v1/sessions/{}", id.as_hyphenated())));
    build(response, outcome, options)
}

fn build(
    mut response: HttpResponseBuilder,
    outcome: &WriteOutcome,
    options: &WriteOptions,
) -> HttpResponse {
    // The version of a dry run does not exist, so the response has no tag.
    if !options.dry_run {
        response.insert_header(tag(outcome.version));
    }
    if outcome.replayed {
        response.insert_header((REPLAYED, "true"));
    }
    response.json(WrittenView::from(outcome))
}

fn tag(version: Version) -> (actix_web::http::header::HeaderName, String) {
    (ETAG, format!("\"{version}\""))
}

/// [`session`] in the description, and the response to a caller that already has this version.
pub(crate) struct SessionResponse;

/// [`updated`] in the description.
pub(crate) struct UpdatedResponse;

/// [`created`] in the description.
pub(crate) struct CreatedResponse;

impl IntoResponses for SessionResponse {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let not_modified = ResponseBuilder::new()
            .description("The caller already has this version: no body.")
            .header("ETag", etag());
        described([("200", session_description("The session.")), ("304", not_modified)])
    }
}

impl IntoResponses for UpdatedResponse {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let description = "The session after the change; with `dryRun` as it would be, without \
                     `ETag`. If nothing changes, the session as it is. An app without \
                     `sessions:read` gets only `sessionId` and `version`.";
        described([("200", session_description(description).header(REPLAYED_NAME, replayed()))])
    }
}

impl IntoResponses for CreatedResponse {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let location = "/v1/sessions/8ad595f3-73b3-4b56-90af-f336f9222fc5";
        let location = header("The path of the session.", "^/v1/sessions/[0-9a-f-]{36}$", location);
        let created = session_description("The new session.")
            .header("Location", location)
            .header(REPLAYED_NAME, replayed());
        let description = "With `dryRun`: the session as it would be, with an example of an id.";
        described([("200", content(description)), ("201", created)])
    }
}

fn described<const N: usize>(
    responses: [(&str, ResponseBuilder); N],
) -> BTreeMap<String, RefOr<Response>> {
    let described = |(status, response): (&str, ResponseBuilder)| {
        (status.to_owned(), RefOr::T(response.build()))
    };
    responses.into_iter().map(described).collect()
}

fn session_description(description: &str) -> ResponseBuilder {
    content(description).header("ETag", etag())
}

fn content(description: &str) -> ResponseBuilder {
    let schema = Ref::from_schema_name(SessionView::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(description).content("application/json", content)
}

fn etag() -> Header {
    header("The version, in quotation marks.", "^\"[1-9][0-9]*\"$", "\"2\"")
}

fn replayed() -> Header {
    header("Present if the response repeats an earlier one.", "^true$", "true")
}

fn header(description: &str, pattern: &str, example: &str) -> Header {
    let schema = text(pattern, example).build();
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}
