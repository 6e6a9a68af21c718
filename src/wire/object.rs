//! JSON from existing clients: read leniently, but never wrongly.
//!
//! A message is one [`JsonObject`], read in a single pass that borrows from its text. Unknown
//! fields are ignored. `null`, `""` and `[]` count as absent. A whole number counts as its decimal
//! string if the field holds an account, and may be written like `3.0`. Every other deviation is an
//! error that names the field.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// More fields than any client sends. A message with more fields is treated as an attack.
const MAX_FIELDS: usize = 256;

/// The fields of one message, in their order.
#[derive(Debug)]
pub struct JsonObject<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

/// A JSON value that borrows its text if the text has no escapes.
#[derive(Debug)]
enum Value<'a> {
    Null,
    Boolean,
    /// A number that is not whole, is too large, or is `-0`.
    Fraction,
    Integer(Integer),
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// A signed or unsigned integer of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer(i128);

/// The JSON type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonKind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number that is not whole, is too large, or is `-0`.
    Fraction,
    /// An integer.
    Integer,
    /// A string.
    Text,
    /// An array.
    List,
    /// An object.
    Object,
}

/// The text is not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The text is not JSON: a syntax error, invalid UTF-8, a lone surrogate, too deep, trailing
    /// text.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// The text is JSON, but not an object.
    #[error("must be a JSON object, got {0}")]
    NotAnObject(JsonKind),
    /// A field appears twice. Fields of inner objects are not compared.
    #[error("{0}: appears more than once")]
    Duplicate(String),
    /// More than 256 fields.
    #[error("at most {MAX_FIELDS} fields, got {0}")]
    TooManyFields(usize),
}

/// A field of the wrong type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: must be {expected}, got {got}")]
pub struct FieldError {
    /// The name of the field, with the index if it is a list: `member[3]`.
    pub field: String,
    /// The expected type.
    pub expected: &'static str,
    /// The received type.
    pub got: JsonKind,
}

impl FieldError {
    /// The error without the index and the received type: the text for a caller who must not learn
    /// the value.
    #[must_use]
    pub fn without_value(&self) -> String {
        let field = self.field.split('[').next().unwrap_or_default();
        format!("{field}: must be {}", self.expected)
    }
}

impl<'a> JsonObject<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] names the reason.
    pub fn parse(json: &'a [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(json)
            .map_err(|error| Malformed::NotJson(format!("invalid UTF-8: {error}")))?;
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Self::from_fields(fields),
            Ok(other) => Err(Malformed::NotAnObject(other.kind())),
            Err(error) => Err(Malformed::NotJson(explain_error(&error.to_string()))),
        }
    }

    /// Takes the fields of a form, which are all text.
    ///
    /// # Errors
    /// [`Malformed::Duplicate`] or [`Malformed::TooManyFields`].
    pub fn from_form(
        fields: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
    ) -> Result<Self, Malformed> {
        Self::from_fields(fields.map(|(name, text)| (name, Value::Text(text))).collect())
    }

    fn from_fields(fields: Vec<(Cow<'a, str>, Value<'a>)>) -> Result<Self, Malformed> {
        if fields.len() > MAX_FIELDS {
            return Err(Malformed::TooManyFields(fields.len()));
        }
        for (at, (name, _)) in fields.iter().enumerate() {
            if fields[..at].iter().any(|(other, _)| other == name) {
                return Err(Malformed::Duplicate(name.chars().take(64).collect()));
            }
        }
        Ok(Self(fields))
    }

    fn get(&self, field: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(name, _)| name == field).map(|(_, value)| value)
    }

    /// The value of a field that is not absent.
    fn non_empty(&self, field: &str) -> Option<&Value<'a>> {
        self.get(field).filter(|value| !value.is_empty())
    }

    /// Whether the field is present and not `null`.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        !matches!(self.get(field), None | Some(Value::Null))
    }

    /// A field that holds text, possibly empty; `None` if absent.
    ///
    /// # Errors
    /// [`FieldError`] if the field has another type.
    pub fn text_or_empty(&self, field: &str) -> Result<Option<&str>, FieldError> {
        match self.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(other.type_error("text", field.to_owned())),
        }
    }

    /// A field that holds text; `None` if absent.
    ///
    /// # Errors
    /// [`FieldError`] if the field has another type.
    pub fn text(&self, field: &str) -> Result<Option<&str>, FieldError> {
        match self.non_empty(field) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(other.type_error("text", field.to_owned())),
        }
    }

    /// A field that holds an integer; `None` if absent.
    ///
    /// # Errors
    /// [`FieldError`] if the field has another type.
    pub fn integer(&self, field: &str) -> Result<Option<Integer>, FieldError> {
        match self.non_empty(field) {
            None => Ok(None),
            Some(Value::Integer(integer)) => Ok(Some(*integer)),
            Some(other) => Err(other.type_error("a whole number", field.to_owned())),
        }
    }

    /// A field that holds an account, which may be an integer; `None` if absent.
    ///
    /// # Errors
    /// [`FieldError`] if the field has another type.
    pub fn account(&self, field: &str) -> Result<Option<Cow<'_, str>>, FieldError> {
        match self.non_empty(field) {
            None => Ok(None),
            Some(value) => value.account(|| field.to_owned()).map(Some),
        }
    }

    /// A field that holds a list of accounts; empty if absent. `take` converts each account, and
    /// gets its index in the list.
    ///
    /// # Errors
    /// [`FieldError`] if the field holds another type, or the error of `take`.
    pub fn accounts<T, E: From<FieldError>>(
        &self,
        field: &str,
        convert: impl Fn(usize, &str) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        match self.non_empty(field) {
            None => Ok(Vec::new()),
            Some(Value::List(items)) => items
                .iter()
                .enumerate()
                .map(|(index, item)| convert(index, &item.account(|| format!("{field}[{index}]"))?))
                .collect(),
            Some(other) => Err(other.type_error("a list of accounts", field.to_owned()).into()),
        }
    }
}

/// The whole number that a JSON number with a fraction or an exponent stands for, such as `3.0`:
/// some clients have no other numbers. `None` for a real fraction, for `-0`, and beyond 2^53, where
/// `f64` is not exact.
#[must_use]
pub fn whole_number(number: f64) -> Option<i64> {
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    let is_whole = number.fract() == 0.0 && number.abs() <= MAX_EXACT;
    let is_negative_zero = number == 0.0 && number.is_sign_negative();
    if !is_whole || is_negative_zero {
        return None;
    }
    // The number is whole and at most 2^53, so the conversion is exact.
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    Some(number as i64)
}

/// An error of `serde_json`, in words for the author of the message.
fn explain_error(error: &str) -> String {
    const WORDS: [(&str, &str); 3] = [
        ("unexpected end of hex escape", "a lone surrogate"),
        ("lone leading surrogate in hex escape", "a lone surrogate"),
        ("number out of range", "a number is too large"),
    ];
    let matched = WORDS.iter().find_map(|(matched, replacement)| {
        let position = error.strip_prefix(matched)?;
        Some(format!("{replacement}{position}"))
    });
    matched.unwrap_or_else(|| error.to_owned())
}

impl Value<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Text(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
            _ => false,
        }
    }

    fn account(&self, field: impl Fn() -> String) -> Result<Cow<'_, str>, FieldError> {
        match self {
            Value::Text(text) => Ok(Cow::Borrowed(text)),
            Value::Integer(integer) => Ok(Cow::Owned(integer.to_string())),
            other => Err(other.type_error("text or an integer", field())),
        }
    }

    fn type_error(&self, expected: &'static str, field: String) -> FieldError {
        FieldError { field, expected, got: self.kind() }
    }

    fn kind(&self) -> JsonKind {
        match self {
            Value::Null => JsonKind::Null,
            Value::Boolean => JsonKind::Boolean,
            Value::Fraction => JsonKind::Fraction,
            Value::Integer(_) => JsonKind::Integer,
            Value::Text(_) => JsonKind::Text,
            Value::List(_) => JsonKind::List,
            Value::Object(_) => JsonKind::Object,
        }
    }
}

impl Integer {
    /// The number if it fits into signed 64 bits.
    #[must_use]
    pub fn to_i64(self) -> Option<i64> {
        self.0.try_into().ok()
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for JsonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Fraction => "a number that is not a 64-bit integer",
            Self::Integer => "a whole number",
            Self::Text => "text",
            Self::List => "a list",
            Self::Object => "an object",
        })
    }
}

// Unknown fields are read too, because skipping them would accept lone surrogates and any depth.
// `serde_json` stops at a depth of 128.

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Value<'de>, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Value<'de>, E> {
                Ok(Value::Boolean)
            }

            fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
                let whole = whole_number(number).map(|whole| Value::Integer(Integer(whole.into())));
                Ok(whole.unwrap_or(Value::Fraction))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
                Ok(Value::Integer(Integer(number.into())))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
                Ok(Value::Integer(Integer(number.into())))
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
                Ok(Value::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
                Ok(Value::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Value::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some(Name(name)) = map.next_key()? {
                    fields.push((name, map.next_value()?));
                }
                Ok(Value::Object(fields))
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}

/// The name of a field. `Cow` itself would always be read as an owned string.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(json: &str) -> JsonObject<'_> {
        JsonObject::parse(json.as_bytes()).unwrap()
    }

    fn names(json: &str) -> Result<Vec<String>, FieldError> {
        object(json).accounts("member", |_, name| Ok(name.to_owned()))
    }

    #[test]
    fn null_and_empty_count_as_absent() {
        let object = object(r#"{"a": null, "b": "", "c": []}"#);
        for field in ["a", "b", "c", "none"] {
            assert_eq!(object.text(field), Ok(None));
            assert_eq!(object.account(field), Ok(None));
            assert_eq!(object.integer(field), Ok(None));
            assert_eq!(object.accounts(field, |_, _| Ok::<_, FieldError>(())), Ok(vec![]));
        }
        assert!(!object.has("a") && object.has("b"));
    }

    #[test]
    fn an_integer_is_an_account() {
        assert_eq!(names(r#"{"member": [10232, "a", -7]}"#).unwrap(), ["10232", "a", "-7"]);
        assert_eq!(
            names(r#"{"member": [1.0, 2e3, -7.0, 0.0]}"#).unwrap(),
            ["1", "2000", "-7", "0"]
        );
        let exact = r#"{"version": 9007199254740992.0}"#;
        assert_eq!(object(exact).integer("version").unwrap().unwrap().to_i64(), Some(1 << 53));
        let largest = r#"{"member": [18446744073709551615]}"#;
        assert_eq!(names(largest).unwrap(), ["18446744073709551615"]);
        assert_eq!(object(r#"{"opUser": 10232}"#).account("opUser"), Ok(Some("10232".into())));
    }

    #[test]
    fn wrong_types_name_the_field() {
        let text = |json| names(json).unwrap_err().to_string();
        let list = "member: must be a list of accounts, got ";
        assert_eq!(text(r#"{"member": "a"}"#), format!("{list}text"));
        assert_eq!(text(r#"{"member": {}}"#), format!("{list}an object"));
        let item = "member[1]: must be text or an integer, got ";
        assert_eq!(text(r#"{"member": ["a", null]}"#), format!("{item}null"));
        assert_eq!(text(r#"{"member": ["a", ["b"]]}"#), format!("{item}a list"));
        assert_eq!(text(r#"{"member": ["a", true]}"#), format!("{item}a boolean"));
        let fraction = format!("{item}a number that is not a 64-bit integer");
        assert_eq!(text(r#"{"member": ["a", -0]}"#), fraction);
        assert_eq!(text(r#"{"member": ["a", -0.0]}"#), fraction);
        assert_eq!(text(r#"{"member": ["a", 9007199254740994.0]}"#), fraction);
        assert_eq!(text(r#"{"member": ["a", 1.5]}"#), fraction);
        assert_eq!(text(r#"{"member": ["a", 18446744073709551616]}"#), fraction);
        let error = object(r#"{"title": 5}"#).text("title").unwrap_err();
        assert_eq!(error.to_string(), "title: must be text, got a whole number");
    }

    #[test]
    fn non_object_error_names_the_type() {
        for (json, kind) in [
            ("[]", "a list"),
            ("null", "null"),
            ("5", "a whole number"),
            ("\"a\"", "text"),
            ("true", "a boolean"),
        ] {
            let error = JsonObject::parse(json.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), format!("must be a JSON object, got {kind}"));
        }
    }

    #[test]
    fn malformed_json_is_refused_in_unused_fields_too() {
        let deep = format!(r#"{{"x": {}1{}}}"#, "[".repeat(200), "]".repeat(200));
        for json in [
            "",
            "{",
            "{}}",
            "{'a': 1}",
            r#"{"a": 1,}"#,
            r#"{"a": "\ud800"}"#,
            r#"{"x": {"y": "\udc00"}}"#,
            r#"{"x": 1e999}"#,
            "{\"a\": \"\u{1}\"}",
            r#"{"a": NaN}"#,
            &deep,
        ] {
            let error = JsonObject::parse(json.as_bytes()).unwrap_err();
            assert!(matches!(error, Malformed::NotJson(_)), "{json}: {error}");
        }
        let error = JsonObject::parse(b"{\"a\": \"\xff\"}").unwrap_err();
        assert!(error.to_string().starts_with("not JSON: invalid UTF-8"), "{error}");
    }

    #[test]
    fn surrogate_and_number_errors_are_clear() {
        let error = |json: &str| JsonObject::parse(json.as_bytes()).unwrap_err().to_string();
        for escape in [r"\ud83d", r"\ude00", r"\ude00\ud83d", r"\ud83d\ud83d", r"\ud83d\n"] {
            let error = error(&format!(r#"{{"title": "{escape}"}}"#));
            assert!(error.starts_with("not JSON: a lone surrogate at line 1 column "), "{error}");
        }
        for number in ["1e999", "-1e99999999999999999999"] {
            let error = error(&format!(r#"{{"version": {number}}}"#));
            assert!(error.starts_with("not JSON: a number is too large at line 1 "), "{error}");
        }
    }

    #[test]
    fn only_top_level_fields_are_checked_for_duplicates() {
        let object = object(r#"{"x": {"y": 1, "y": 2}, "title": "t"}"#);
        assert_eq!(object.text("title"), Ok(Some("t")));
    }

    #[test]
    fn duplicate_field_is_refused() {
        let duplicate = |json: &str| JsonObject::parse(json.as_bytes()).unwrap_err().to_string();
        assert_eq!(duplicate(r#"{"title": "a", "title": "a"}"#), "title: appears more than once");
        assert_eq!(
            duplicate(r#"{"t\u0069tle": "a", "title": "a"}"#),
            "title: appears more than once"
        );
    }

    #[test]
    fn number_of_fields_is_bounded() {
        let many: Vec<String> = (0..50_000).map(|n| format!("\"{n}\":0")).collect();
        let json = format!("{{{}}}", many.join(","));
        let error = JsonObject::parse(json.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "at most 256 fields, got 50000");
    }

    #[test]
    fn form_fields_are_text() {
        let form = form_urlencoded::parse(b"buin=7&appId=a&encrypt=%2B%2F%3D");
        let object = JsonObject::from_form(form).unwrap();
        assert_eq!(object.text("encrypt"), Ok(Some("+/=")));
        let twice = form_urlencoded::parse(b"a=1&a=2");
        assert!(JsonObject::from_form(twice).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = JsonObject::parse(&bytes);
        }

        #[test]
        fn text_round_trips(text in "\\PC{1,80}") {
            let json = serde_json::json!({ "title": text }).to_string();
            let object = object(&json);
            prop_assert_eq!(object.text("title"), Ok(Some(text.as_str())));
        }
    }
}
