//! `GET /v1/openapi.json`: the description of this API, generated from its types and handlers.
//!
//! `muster openapi` prints the same text. The file `openapi.json` holds a copy, and a test compares
//! the two.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, ContentType};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{AdditionalProperties, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Object, ObjectBuilder, OpenApi as Document, RefOr, Schema};
use utoipa::{Modify, OpenApi, PartialSchema, ToSchema};

use super::endpoints::sessions;
use super::endpoints::sessions::{create, members, state, update};
use super::endpoints::{batch, diff, docs, events, limits, list};
use super::extract::parameter::standard_header;
use super::problem;
use super::render::view;

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
                       parameters are refused."
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
        batch::batch_sessions,
        list::members::list,
        members::replace,
        list::members::get,
        members::add,
        members::remove,
        events::list,
        diff::get,
        limits::get,
        get,
        docs::page
    ),
    components(schemas(problem::ProblemBody, view::SessionView)),
    modifiers(&ApiKeyScheme, &RequestIdHeader),
    security(("apiKey" = [])),
    tags(
        (name = "sessions", description = "Sessions"),
        (name = "members", description = "Members of sessions"),
        (name = "history", description = "Earlier versions and changes of sessions"),
        (name = "service", description = "The service itself")
    )
)]
struct ApiDescription;

/// Adds the API key to the description, as its security scheme.
struct ApiKeyScheme;

impl Modify for ApiKeyScheme {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("msk_…")
            .description(Some("An API key of an app, from `muster key create`."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("apiKey", SecurityScheme::Http(scheme));
    }
}

/// Adds `X-Request-Id` to every request and every response of the description.
struct RequestIdHeader;

impl Modify for RequestIdHeader {
    fn modify(&self, document: &mut Document) {
        let header = HeaderBuilder::new()
            .schema(Some(Object::with_type(Type::String)))
            .description(Some("The id of the request, if it had a valid one, otherwise a new one."))
            .build();
        let description = "The caller's id of the request, for the response and the log: up to 64 \
                     letters, digits and `._:/+=@-`. Any other value is ignored.";
        let parameter =
            standard_header("X-Request-Id", description, "3f0c1f0e9b7a4d52a1c6f5d3e8b70a94");
        let operations = document.paths.paths.values_mut().flat_map(|path| {
            [&mut path.get, &mut path.put, &mut path.post, &mut path.patch, &mut path.delete]
                .into_iter()
                .flatten()
        });
        for operation in operations {
            operation.parameters.get_or_insert_default().push(parameter.clone().into());
            for response in operation.responses.responses.values_mut() {
                if let RefOr::T(response) = response {
                    response.headers.insert("X-Request-Id".to_owned(), header.clone().into());
                }
            }
        }
    }
}

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
