//! Changes of the whole description, for facts that belong to no single endpoint.

use std::collections::btree_map::Entry;
use std::mem;

use serde_json::json;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, PathItem};
use utoipa::openapi::schema::Type;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Object, OpenApi, RefOr, Required, Response, Schema};
use utoipa::{IntoResponses as _, Modify};

use crate::http::v1::extract::conditions::ReadConditions;
use crate::http::v1::extract::parameter::standard_header;
use crate::http::v1::problem::ErrorResponses;

/// Adds the API key, as the security scheme.
pub(super) struct ApiKeyScheme;

/// Adds the errors of conditions to every read: `conditions::evaluate_read` ignores no condition.
pub(super) struct ConditionErrors;

/// Adds `X-Request-Id` to every request and every response.
pub(super) struct RequestIdHeader;

/// Moves the example of an optional parameter into its schema, as one of the `examples`. Swagger UI
/// fills in and sends an `example`: with `dryRun=true` the new session would not exist, and with
/// `If-Match: "5"` a change would be refused. It fills in no `examples`.
///
/// The schema of an optional parameter that is a reference must have `examples` as well.
pub(super) struct OptionalParameters;

impl Modify for ApiKeyScheme {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("msk_…")
            .description(Some("An API key of an app, from `muster key create`."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("apiKey", SecurityScheme::Http(scheme));
    }
}

impl Modify for ConditionErrors {
    fn modify(&self, document: &mut OpenApi) {
        let errors = ErrorResponses::<ReadConditions>::responses();
        for read in document.paths.paths.values_mut().filter_map(|item| item.get.as_mut()) {
            for (status, response) in &errors {
                match read.responses.responses.entry(status.clone()) {
                    Entry::Vacant(missing) => {
                        missing.insert(response.clone());
                    }
                    Entry::Occupied(described) => add_examples(described.into_mut(), response),
                }
            }
        }
    }
}

/// Adds the examples of `more` that a response of the same kind lacks.
fn add_examples(response: &mut RefOr<Response>, more: &RefOr<Response>) {
    let (RefOr::T(response), RefOr::T(more)) = (response, more) else { return };
    for (media_type, more) in &more.content {
        let Some(RefOr::T(content)) = response.content.get_mut(media_type) else { continue };
        let RefOr::T(more) = more else { continue };
        for (name, example) in &more.examples {
            content.examples.entry(name.clone()).or_insert_with(|| example.clone());
        }
    }
}

impl Modify for RequestIdHeader {
    fn modify(&self, document: &mut OpenApi) {
        let header = HeaderBuilder::new()
            .schema(Some(Object::with_type(Type::String)))
            .description(Some("The id of the request, if it had a valid one, otherwise a new one."))
            .build();
        let description = "The caller's id of the request, for the response and the log: up to 64 \
                     letters, digits and `._:/+=@-`. Any other value is ignored.";
        let parameter =
            standard_header("X-Request-Id", description, "3f0c1f0e9b7a4d52a1c6f5d3e8b70a94");
        for operation in operations(document) {
            operation.parameters.get_or_insert_default().push(parameter.clone().into());
            for response in operation.responses.responses.values_mut() {
                if let RefOr::T(response) = response {
                    response.headers.insert("X-Request-Id".to_owned(), header.clone().into());
                }
            }
        }
    }
}

impl Modify for OptionalParameters {
    fn modify(&self, document: &mut OpenApi) {
        for parameter in operations(document).flat_map(|of| of.parameters.iter_mut().flatten()) {
            let RefOr::T(parameter) = parameter else { continue };
            if matches!(parameter.required, Required::True) {
                continue;
            }
            // The field `example` of a parameter is private, so it is read from the JSON form.
            let beside = json!(parameter).get("example").cloned();
            let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema else { continue };
            let inside = schema.example.take();
            if schema.examples.is_empty() {
                schema.examples.extend(beside.or(inside));
            }
            let builder = ParameterBuilder::from(mem::take(parameter));
            *parameter = builder.example(None).build();
        }
    }
}

/// The operations of all paths.
fn operations(document: &mut OpenApi) -> impl Iterator<Item = &mut Operation> {
    document.paths.paths.values_mut().flat_map(|item| {
        let PathItem { get, put, post, patch, delete, .. } = item;
        [get, put, post, patch, delete].into_iter().flatten()
    })
}
