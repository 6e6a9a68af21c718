//! Parameters in the API's description: those of paths and headers. Those of queries are made from
//! their types.

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Required, Schema};

/// A parameter that stands in the path.
pub(crate) fn in_path(
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
) -> Parameter {
    parameter(name, ParameterIn::Path, Required::True, description, schema).build()
}

/// A header that may be there.
pub(crate) fn in_header(
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
) -> Parameter {
    parameter(name, ParameterIn::Header, Required::False, description, schema).build()
}

/// A header that may be there, whose form is the HTTP standard's business: programs know it by its
/// name. So its schema says nothing but that it is text; the example stands beside that.
pub(crate) fn standard_header(name: &str, description: &str, example: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let header = parameter(name, ParameterIn::Header, Required::False, description, text);
    header.example(Some(example.into())).build()
}

/// Text of a pattern.
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
