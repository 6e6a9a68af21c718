//! Parameters of paths and headers in the API's description. Types generate the parameters of
//! queries.

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Required, Schema};

/// A list of entity tags, or `*` (RFC 9110), as the extractors of conditions accept it.
const ENTITY_TAGS: &str = concat!(
    r#"^([ \t]*\*[ \t]*|[ \t,]*((W/)?"[\t !#-~]*"[ \t]*"#,
    r#"(,[ \t,]*(W/)?"[\t !#-~]*"[ \t]*)*[ \t,]*)?)$"#
);

/// A parameter in the path.
pub(crate) fn in_path(
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
) -> Parameter {
    parameter(name, ParameterIn::Path, Required::True, description, schema).build()
}

/// An optional header.
pub(crate) fn in_header(
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
) -> Parameter {
    parameter(name, ParameterIn::Header, Required::False, description, schema).build()
}

/// An optional header whose form the HTTP standard defines. Only conditions have a pattern, because
/// the server refuses other values of them.
pub(crate) fn standard_header(name: &str, description: &str, example: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let text = match name {
        "If-Match" | "If-None-Match" => text.pattern(Some(ENTITY_TAGS)),
        _ => text,
    };
    let header = parameter(name, ParameterIn::Header, Required::False, description, text);
    header.example(Some(example.into())).build()
}

/// Text that matches a pattern.
pub(crate) fn text(pattern: &str, example: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).examples([example])
}

fn parameter(
    name: &str,
    location: ParameterIn,
    required: Required,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(location)
        .required(required)
        .description(Some(description))
        .schema(Some(schema))
}
