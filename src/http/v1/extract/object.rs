//! Attributes: JSON objects with any members. A map would silently keep the last of two members with
//! the same name; here a repeated name is an error, at any depth.
//!
//! A tree of values takes up to a hundred times the memory of its text, so one that is too large is not
//! kept.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};
use utoipa::openapi::schema::{AdditionalProperties, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::field::truncate;
use crate::domain::AttributesPatch;
use crate::http::v1::problem::{Code, Problem};

/// The beginning of names that `serde_json` interprets when it reads a value: the text of such a
/// member is parsed once more. A stored object with such a name could not be read as it was written.
const RESERVED_PREFIX: &str = "$serde_json::private::";

/// The maximum size of the attributes in a request, in bytes of compact JSON: those of a session, and
/// members that the request removes.
const MAX_PATCH_BYTES: usize = 64 * 1024;

/// An object without repeated names. It also describes the attributes of responses.
#[derive(Debug)]
pub(crate) struct AttributesJson {
    /// The members; only some of them if there are too many.
    map: Map<String, Value>,
    /// The size as compact JSON, in bytes, or a little less.
    bytes: usize,
}

impl AttributesJson {
    /// The attributes as a patch.
    ///
    /// # Errors
    /// [`Code::AttributesTooLarge`].
    pub(crate) fn read(self) -> Result<AttributesPatch, Problem> {
        let Self { map, bytes } = self;
        if bytes <= MAX_PATCH_BYTES {
            return Ok(AttributesPatch::new(map));
        }
        let reason =
            format!("at most {MAX_PATCH_BYTES} bytes as compact JSON in a request, got {bytes}");
        let problem = Problem::for_field(Code::AttributesTooLarge, "attributes", reason);
        Err(problem.with_limit(MAX_PATCH_BYTES, bytes))
    }
}

impl<'de> Deserialize<'de> for AttributesJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Cell::new(0);
        let map = deserializer.deserialize_map(ObjectVisitor(&bytes))?;
        Ok(Self { map, bytes: bytes.get() })
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

/// Reads an object, and adds its size.
struct ObjectVisitor<'b>(&'b Cell<usize>);

impl<'de> Visitor<'de> for ObjectVisitor<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let Self(bytes) = self;
        let mut map = Map::new();
        add(bytes, 2);
        while let Some(name) = members.next_key::<String>()? {
            if name.starts_with(RESERVED_PREFIX) {
                let text = format!("must not have a name that begins with {RESERVED_PREFIX}");
                return Err(A::Error::custom(text));
            }
            if map.contains_key(&name) {
                // The text of serde for this error: `field::problem` recognises it.
                return Err(A::Error::custom(format!("duplicate field `{}`", truncate(&name))));
            }
            // Quotation marks and a colon.
            add(bytes, name.len() + 3);
            let value = members.next_value_seed(AnyValueVisitor(bytes))?;
            if bytes.get() <= MAX_PATCH_BYTES {
                map.insert(name, value);
            }
        }
        Ok(map)
    }
}

/// Reads any JSON value, and adds its size.
struct AnyValueVisitor<'b>(&'b Cell<usize>);

impl AnyValueVisitor<'_> {
    fn scalar<E: Error>(self, value: Value) -> Result<Value, E> {
        add(self.0, 1);
        Ok(value)
    }

    fn text<E: Error>(self, text: &str) -> Result<Value, E> {
        add(self.0, text.len() + 2);
        Ok(Value::String(text.to_owned()))
    }
}

/// Adds to the size of the attributes.
fn add(bytes: &Cell<usize>, more: usize) {
    bytes.set(bytes.get() + more);
}

impl<'de> DeserializeSeed<'de> for AnyValueVisitor<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValueVisitor<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        // Numbers in JSON are always finite.
        self.scalar(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.text(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let Self(bytes) = self;
        let mut list = Vec::new();
        add(bytes, 2);
        while let Some(item) = items.next_element_seed(AnyValueVisitor(bytes))? {
            if bytes.get() <= MAX_PATCH_BYTES {
                list.push(item);
            }
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Value, A::Error> {
        ObjectVisitor(self.0).visit_map(members).map(Value::Object)
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
        let read = read.and_then(|body| body.attributes.read());
        read.map(|patch| Value::Object(patch.as_map().clone()))
            .map_err(|problem| problem.to_string())
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
    fn attributes_that_are_too_large_are_not_kept() {
        for (text, bytes) in [
            (format!(r#"{{"a":[{}0]}}"#, "[[0]],".repeat(100_000)), 500_000),
            (
                format!(
                    "{{{}\"\":0}}",
                    (0..50_000).map(|n| format!("\"{n}\":{{}},")).collect::<String>()
                ),
                480_000,
            ),
            (format!(r#"{{"a":"{}"}}"#, "x".repeat(70_000)), 70_000),
        ] {
            let json = json::read::<TestBody>(format!(r#"{{"attributes":{text}}}"#).as_bytes());
            let attributes = json.unwrap().attributes;
            let kept = Value::Object(attributes.map.clone()).to_string().len();
            assert!(kept <= MAX_PATCH_BYTES + 70_000, "{kept}");
            let error = attributes.read().unwrap_err().to_string();
            let start = "attributes_too_large attributes: at most 65536 bytes as compact JSON in a request, got ";
            let got: usize = error.strip_prefix(start).unwrap().parse().unwrap();
            assert!(got >= bytes * 9 / 10 && got <= text.len(), "{got} of {}", text.len());
        }
        // Nothing that a session may have is refused.
        let largest = format!(r#"{{"a":[{}0]}}"#, "0,".repeat(32_000));
        assert!(read(&largest).is_ok());
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
