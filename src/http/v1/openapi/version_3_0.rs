//! The description as OpenAPI 3.0.3, made from that of 3.1. In 3.0, schemas are not JSON Schema:
//! there is no type `null`, no list of types, no `examples` of a schema, and nothing beside a
//! `$ref`. Webhooks do not exist there, so the description has them as `x-webhooks`.
//!
//! Only keywords that the description can contain are converted. The tests fail if another one
//! appears.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Keywords of JSON Schema that 3.0 lacks. Without them, a schema accepts more.
const DROPPED: [&str; 4] = ["propertyNames", "contentMediaType", "contentSchema", "$comment"];

/// The type of each component that has one type, by the text of a `$ref`.
type Types = BTreeMap<String, String>;

/// Converts a description.
pub(super) fn from_3_1(mut document: Value) -> Value {
    let types = component_types(&document);
    convert_object(&mut document, &types);
    if let Some(fields) = document.as_object_mut() {
        fields.insert("openapi".to_owned(), "3.0.3".into());
        if let Some(webhooks) = fields.remove("webhooks") {
            fields.insert("x-webhooks".to_owned(), webhooks);
        }
    }
    if let Some(license) = document.pointer_mut("/info/license").and_then(Value::as_object_mut)
        && let Some(Value::String(identifier)) = license.remove("identifier")
    {
        let url = format!("https://spdx.org/licenses/{identifier}.html");
        license.insert("url".to_owned(), url.into());
    }
    document
}

fn component_types(document: &Value) -> Types {
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    let typed = schemas.into_iter().flatten().filter_map(|(name, schema)| {
        let kind = schema.get("type")?.as_str()?.to_owned();
        Some((format!("#/components/schemas/{name}"), kind))
    });
    typed.collect()
}

/// Converts the schemas in any object outside of schemas. Examples stay as they are.
fn convert_object(value: &mut Value, types: &Types) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("example" | "examples", _) => {}
                    ("schema", schema) => convert_schema(schema, types),
                    ("schemas", Value::Object(schemas)) => {
                        schemas.values_mut().for_each(|schema| convert_schema(schema, types));
                    }
                    (_, value) => convert_object(value, types),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| convert_object(item, types)),
        _ => {}
    }
}

fn convert_schema(schema: &mut Value, types: &Types) {
    let Some(fields) = schema.as_object_mut() else { return };
    for (name, value) in fields.iter_mut() {
        match (name.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().for_each(|schema| convert_schema(schema, types));
            }
            ("items" | "additionalProperties" | "not", schema) => convert_schema(schema, types),
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(|schema| convert_schema(schema, types));
            }
            _ => {}
        }
    }
    fields.retain(|name, _| !DROPPED.contains(&name.as_str()));
    convert_types(fields);
    convert_null_alternative(fields, types);
    if let Some(Value::Array(examples)) = fields.remove("examples")
        && let Some(first) = examples.into_iter().next()
    {
        fields.entry("example").or_insert(first);
    }
    if let Some(value) = fields.remove("const") {
        fields.insert("enum".to_owned(), json!([value]));
    }
    if let Some(Value::String(encoding)) = fields.remove("contentEncoding")
        && encoding == "base64"
    {
        fields.insert("format".to_owned(), "byte".into());
    }
    for (exclusive, inclusive) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")]
    {
        if let Some(limit @ Value::Number(_)) = fields.get(exclusive).cloned() {
            fields.insert(inclusive.to_owned(), limit);
            fields.insert(exclusive.to_owned(), true.into());
        }
    }
    if fields.len() > 1
        && let Some(reference) = fields.remove("$ref")
    {
        fields.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
    }
}

/// Converts a list of types: `null` becomes `nullable`, and several others become alternatives.
fn convert_types(fields: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = fields.get("type").cloned() else { return };
    let (null, others): (Vec<_>, Vec<_>) = types.into_iter().partition(|name| name == "null");
    if !null.is_empty() {
        fields.insert("nullable".to_owned(), true.into());
    }
    if let [only] = &others[..] {
        fields.insert("type".to_owned(), only.clone());
        return;
    }
    fields.remove("type");
    let others: Vec<_> = others.iter().map(|name| json!({ "type": name })).collect();
    fields.insert("anyOf".to_owned(), others.into());
}

/// Converts an alternative to `null`. `nullable` has an effect only beside a `type`.
fn convert_null_alternative(fields: &mut Map<String, Value>, types: &Types) {
    for name in ["oneOf", "anyOf"] {
        let Some(Value::Array(schemas)) = fields.get(name) else { continue };
        let is_null = |schema: &&Value| schema["type"] == "null";
        let mut others: Vec<Value> = schemas.iter().filter(|it| !is_null(it)).cloned().collect();
        if others.len() == schemas.len() {
            continue;
        }
        fields.remove(name);
        match (&others[..], others.first().and_then(|only| type_of(only, types))) {
            ([_], Some(kind)) => {
                fields.insert("type".to_owned(), kind.into());
                fields.insert("nullable".to_owned(), true.into());
                fields.insert("allOf".to_owned(), others.into());
            }
            _ => {
                others.push(json!({ "type": "string", "nullable": true, "enum": [null] }));
                fields.insert(name.to_owned(), others.into());
            }
        }
    }
}

/// The type of a converted schema, or of the component that it refers to.
fn type_of(schema: &Value, types: &Types) -> Option<String> {
    let own = schema.get("type").and_then(Value::as_str);
    let reference = schema.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref"));
    let target = || types.get(reference?.as_str()?).cloned();
    own.map(str::to_owned).or_else(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(schema: Value) -> Value {
        let types = Types::from([("#/a".to_owned(), "object".to_owned())]);
        let mut schema = schema;
        convert_schema(&mut schema, &types);
        schema
    }

    #[test]
    fn schemas_are_converted() {
        for (new, old) in [
            (json!({ "type": ["string", "null"] }), json!({ "type": "string", "nullable": true })),
            (
                json!({ "type": ["string", "integer"], "maxLength": 5 }),
                json!({ "anyOf": [{ "type": "string" }, { "type": "integer" }], "maxLength": 5 }),
            ),
            (
                json!({ "oneOf": [{ "type": "null" }, { "$ref": "#/a" }] }),
                json!({ "type": "object", "nullable": true, "allOf": [{ "$ref": "#/a" }] }),
            ),
            (
                json!({ "oneOf": [{ "type": "null" }, { "$ref": "#/a", "description": "text" }] }),
                json!({
                    "type": "object", "nullable": true,
                    "allOf": [{ "allOf": [{ "$ref": "#/a" }], "description": "text" }]
                }),
            ),
            // Without a type, `nullable` would have no effect.
            (
                json!({ "oneOf": [{ "type": "null" }, { "$ref": "#/b" }] }),
                json!({ "oneOf": [
                    { "$ref": "#/b" }, { "type": "string", "nullable": true, "enum": [null] }
                ] }),
            ),
            (json!({ "$ref": "#/a" }), json!({ "$ref": "#/a" })),
            (
                json!({ "$ref": "#/a", "description": "text" }),
                json!({ "allOf": [{ "$ref": "#/a" }], "description": "text" }),
            ),
            (json!({ "examples": [1, 2] }), json!({ "example": 1 })),
            (json!({ "examples": [1], "example": 3 }), json!({ "example": 3 })),
            (json!({ "const": "multi" }), json!({ "enum": ["multi"] })),
            (json!({ "contentEncoding": "base64" }), json!({ "format": "byte" })),
            (json!({ "exclusiveMinimum": 0 }), json!({ "exclusiveMinimum": true, "minimum": 0 })),
            (
                json!({ "properties": { "examples": { "type": ["array", "null"], "items": { "const": 1 } } } }),
                json!({ "properties": { "examples": { "type": "array", "nullable": true, "items": { "enum": [1] } } } }),
            ),
            (json!({ "additionalProperties": true }), json!({ "additionalProperties": true })),
        ] {
            assert_eq!(schema(new.clone()), old, "{new}");
        }
    }

    #[test]
    fn examples_keep_their_fields() {
        let media = json!({
            "schema": { "type": ["string", "null"] },
            "example": { "type": ["a"], "schema": { "const": 1 } }
        });
        let path = json!({ "get": { "responses": { "200": { "content": { "*/*": media } } } } });
        let document = json!({
            "openapi": "3.1.0", "info": { "license": { "name": "MIT", "identifier": "MIT" } },
            "paths": { "/a": path }, "webhooks": { "b": path }
        });
        let converted = from_3_1(document);
        assert_eq!(converted["openapi"], "3.0.3");
        let url = "https://spdx.org/licenses/MIT.html";
        assert_eq!(converted["info"], json!({ "license": { "name": "MIT", "url": url } }));
        for path in [&converted["paths"]["/a"], &converted["x-webhooks"]["b"]] {
            let media = &path["get"]["responses"]["200"]["content"]["*/*"];
            assert_eq!(media["schema"], json!({ "type": "string", "nullable": true }));
            assert_eq!(media["example"], json!({ "type": ["a"], "schema": { "const": 1 } }));
        }
    }
}
