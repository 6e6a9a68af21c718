//! Attributes: JSON objects with any members. A map would silently keep the last of two members with
//! the same name; here a repeated name is an error, at any depth.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};
use utoipa::openapi::schema::{AdditionalProperties, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::field::truncate;

/// An object without repeated names. It also describes the attributes of responses.
#[derive(Debug)]
pub(crate) struct AttributesJson(pub(crate) Map<String, Value>);

impl<'de> Deserialize<'de> for AttributesJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor).map(Self)
    }
}

impl PartialSchema for AttributesJson {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(Some("Data of the apps: a JSON object with any members."))
            // Without this, generators make a type that has no members.
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .examples([json!({ "project": "muster" })])
            .into()
    }
}

impl ToSchema for AttributesJson {
    fn name() -> Cow<'static, str> {
        "Attributes".into()
    }
}

/// The beginning of names that `serde_json` interprets when it reads a value: the text of such a
/// member is parsed once more. A stored object with such a name could not be read as it was written.
const RESERVED_PREFIX: &str = "$serde_json::private::";

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if name.starts_with(RESERVED_PREFIX) {
                let text = format!("must not have a name that begins with {RESERVED_PREFIX}");
                return Err(A::Error::custom(text));
            }
            if map.contains_key(&name) {
                // The text of serde for this error: `field::problem` recognises it.
                return Err(A::Error::custom(format!("duplicate field `{}`", truncate(&name))));
            }
            let value = members.next_value_seed(AnyValueVisitor)?;
            map.insert(name, value);
        }
        Ok(map)
    }
}

/// Reads any JSON value.
struct AnyValueVisitor;

impl<'de> DeserializeSeed<'de> for AnyValueVisitor {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        // Numbers in JSON are always finite.
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(AnyValueVisitor)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Value, A::Error> {
        ObjectVisitor.visit_map(members).map(Value::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::v1::extract::json;

    #[derive(Debug, Deserialize)]
    struct TestBody {
        attributes: AttributesJson,
    }

    fn read(attributes: &str) -> Result<Value, String> {
        let read = json::read::<TestBody>(format!(r#"{{"attributes":{attributes}}}"#).as_bytes());
        read.map(|body| Value::Object(body.attributes.0)).map_err(|problem| problem.to_string())
    }

    #[test]
    fn every_json_value_is_kept() {
        let text =
            r#"{"a":[1,-2,2.5,1e30,18446744073709551615,null,true,"\u0000é",{"b":{}}],"":0}"#;
        assert_eq!(read(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn duplicate_member_is_named() {
        for (text, detail) in [
            (r#"{"a":1,"a":1}"#, "attributes.a"),
            (r#"{"x":{"a":1,"\u0061":1}}"#, "attributes.x.a"),
            (r#"{"x":[0,{"a":1,"a":1}]}"#, "attributes.x[1].a"),
        ] {
            assert_eq!(
                read(text),
                Err(format!("duplicate_field {detail}: appears more than once"))
            );
        }
    }

    #[test]
    fn names_that_the_json_library_interprets_are_refused() {
        for text in [
            r#"{"$serde_json::private::RawValue":"[1"}"#,
            r#"{"a":[{"$serde_json::private::RawValue":"1"}]}"#,
            r#"{"a":{"$serde_json::private::Number":"1"}}"#,
            r#"{"a":{"b":1,"$serde_json::private::RawValue":"[]"}}"#,
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with("invalid_field attributes"), "{error}");
            assert!(error.contains("must not have a name that begins with $serde"), "{error}");
        }
        assert!(read(r#"{"a $serde_json::private::RawValue":{"$":1}}"#).is_ok());
    }

    #[test]
    fn nesting_depth_is_bounded() {
        for text in ["5", "null", "[]", r#""{}""#] {
            assert!(read(text).unwrap_err().starts_with("invalid_field attributes: "), "{text}");
        }
        let deep = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        // The body itself is a level.
        assert!(read(&deep(126)).is_ok());
        let error = read(&deep(127)).unwrap_err();
        assert!(
            error.starts_with("malformed_body body: is nested too deeply, at most 127 levels at ")
        );
    }
}
