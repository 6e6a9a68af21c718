//! `GET /v1/openapi.json`: the description of this API, generated from its types and handlers.
//!
//! `muster openapi` prints the same text. The file `openapi.json` holds a copy, and a test compares
//! the two. Types and handlers describe themselves; here stands only the description of the whole.

mod callback;
mod modifiers;
mod version_3_0;

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, ContentType};
use utoipa::openapi::schema::{AdditionalProperties, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{OpenApi, PartialSchema, ToSchema};

use super::endpoints::sessions;
use super::endpoints::sessions::{create, members, state, update};
use super::endpoints::{batch, compare, consumers, diff, docs, events, feed, limits, list};
use super::problem;
use super::render::view;
use callback::CallbackWebhook;
use modifiers::{ApiKeyScheme, ConditionErrors, OptionalParameters, RequestIdHeader};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Muster",
        description = "Chat sessions: members, title, owner, attributes and version.\n\nApps act \
                       for an account, the `operator`, with the rights of that member. Apps with \
                       the permission `sessions:admin` may act for any account, with the rights \
                       of the owner, if the request has a `reason`. The history records operator, \
                       app and reason.\n\nEvery error is an `application/problem+json` with a stable \
                       `code`. Every endpoint with `GET` also has `HEAD`. Unknown fields and \
                       parameters are refused. No condition (`If-Match`, `If-None-Match`, \
                       `If-Modified-Since`, `If-Unmodified-Since`, `If-Range`) is ignored: it is \
                       evaluated, or refused with `invalid_header`.\n\nTo try this API on the page \
                       `/v1/docs`, enter an API key under *Authorize*, create a session, and copy its \
                       `sessionId` into the other endpoints. Create a consumer before you try the \
                       other endpoints of consumers. Everything else is filled in. Optional \
                       parameters are empty or have their defaults."
    ),
    servers((url = "/", description = "The server of this description")),
    paths(
        list::sessions::list,
        create::create,
        sessions::get::get,
        update::update,
        state::dissolve,
        state::restore,
        state::revert,
        list::batch_get::get,
        compare::compare,
        batch::batch_sessions,
        list::members::list,
        members::replace,
        list::members::get,
        members::add,
        members::remove,
        events::list,
        feed::page::list,
        diff::get,
        consumers::status::list,
        consumers::put::put,
        consumers::status::get,
        consumers::manage::remove,
        consumers::fetch::fetch,
        consumers::acknowledge::acknowledge,
        consumers::manage::reset,
        consumers::manage::release,
        limits::get,
        get,
        docs::page
    ),
    components(schemas(
        problem::ProblemBody,
        view::SessionView,
        callback::CallbackBodySchema,
        callback::CallbackMessageSchema
    )),
    modifiers(
        &ApiKeyScheme,
        &ConditionErrors,
        &RequestIdHeader,
        &OptionalParameters,
        &CallbackWebhook
    ),
    security(("apiKey" = [])),
    tags(
        (name = "sessions", description = "Sessions"),
        (name = "members", description = "Members of sessions"),
        (name = "history", description = "Earlier versions and changes of sessions"),
        (name = "consumers", description = "Named consumers of the changes, alone or as a group"),
        (name = "service", description = "The service itself")
    )
)]
struct ApiDescription;

/// The description of the REST API: OpenAPI 3.1 as JSON, with a newline at its end.
#[must_use]
pub fn openapi() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        // Text and numbers always have a JSON form.
        let document = ApiDescription::openapi().to_pretty_json().unwrap_or_default();
        format!("{document}\n")
    });
    &TEXT
}

/// The same description as OpenAPI 3.0.3, for generators that do not read 3.1.
#[must_use]
pub fn openapi_3_0() -> String {
    let document =
        version_3_0::from_3_1(serde_json::to_value(ApiDescription::openapi()).unwrap_or_default());
    format!("{document:#}\n")
}

/// The schema of a description: any JSON object, as OpenAPI has its own schema.
struct DescriptionSchema;

impl PartialSchema for DescriptionSchema {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .into()
    }
}

impl ToSchema for DescriptionSchema {}

/// This description
///
/// `muster openapi --version 3.0` prints it in the form of OpenAPI 3.0.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    operation_id = "getDescription",
    tag = "service",
    security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = inline(DescriptionSchema), example = json!({ "openapi": "3.1.0" })))
)]
pub(crate) async fn get() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::json())
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(openapi())
}
