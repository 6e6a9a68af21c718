//! JSON from existing clients: read leniently, but never wrongly.
//!
//! A message is one [`JsonObject`], read in a single pass that borrows from its text. The caller names
//! the fields that it uses; all others are skipped. `null`, `""` and `[]` count as absent. A whole
//! number counts as its decimal string if the field holds an account, and may be written like `3.0`.
//! Every other deviation is an error that names the field.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};

use super::account_texts::TooManyAccounts;
use super::json_value::{Integer, Name, Value};
use super::skipped::{JsonKind, SkippedValue};

/// More fields than any client sends. A message with more fields is treated as an attack.
const MAX_FIELDS: usize = 256;

/// The fields of one message, in their order. A field that the reader does not use has no value.
#[derive(Debug)]
pub struct JsonObject<'a>(Vec<(Cow<'a, str>, Option<Value<'a>>)>);

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
    /// Reads a message. Of the fields, those named in `fields` are kept; the others are checked as JSON
    /// and dropped.
    ///
    /// # Errors
    /// [`Malformed`] names the reason.
    pub fn parse(json: &'a [u8], fields: &[&str]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(json)
            .map_err(|error| Malformed::NotJson(format!("invalid UTF-8: {error}")))?;
        let not_json =
            |error: serde_json::Error| Malformed::NotJson(explain_json_error(&error.to_string()));
        if !text.trim_start().starts_with('{') {
            let SkippedValue(kind) = serde_json::from_str(text).map_err(not_json)?;
            return Err(Malformed::NotAnObject(kind));
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let found = deserializer.deserialize_map(FieldsVisitor { fields }).map_err(not_json)?;
        deserializer.end().map_err(not_json)?;
        found.check()
    }

    /// Takes the fields of a form, which are all text. Of the fields, those named in `fields` are kept.
    ///
    /// # Errors
    /// [`Malformed::Duplicate`] or [`Malformed::TooManyFields`].
    pub fn from_form(
        pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
        fields: &[&str],
    ) -> Result<Self, Malformed> {
        let mut found = FoundFields::default();
        for (name, text) in pairs {
            let value = fields.contains(&&*name).then_some(Value::Text(text));
            found.add(name, value);
        }
        found.check()
    }

    fn get(&self, field: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(name, _)| name == field).and_then(|(_, value)| value.as_ref())
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
            Some(other) => Err(type_error(other.kind(), "text", field.to_owned())),
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
            Some(other) => Err(type_error(other.kind(), "text", field.to_owned())),
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
            Some(other) => Err(type_error(other.kind(), "a whole number", field.to_owned())),
        }
    }

    /// A field that holds an account, which may be an integer; `None` if absent.
    ///
    /// # Errors
    /// [`FieldError`] if the field has another type.
    pub fn account(&self, field: &str) -> Result<Option<Cow<'_, str>>, FieldError> {
        match self.non_empty(field) {
            None => Ok(None),
            Some(value) => account(value, field).map(Some),
        }
    }

    /// A field that holds a list of accounts; empty if absent. `convert` converts each account, and
    /// gets its index in the list. The list may have `max` accounts, and one more:
    /// [`AccountTexts::read`](super::AccountTexts::read).
    ///
    /// # Errors
    /// [`FieldError`] if the field holds another type, or the error of `convert` or `too_many`.
    pub fn accounts<T, E: From<FieldError>>(
        &self,
        field: &str,
        max: usize,
        convert: impl Fn(usize, &str) -> Result<T, E>,
        too_many: impl FnOnce(TooManyAccounts) -> E,
    ) -> Result<Vec<T>, E> {
        let list = match self.non_empty(field) {
            None => return Ok(Vec::new()),
            Some(Value::List(list)) => list,
            Some(other) => {
                return Err(type_error(other.kind(), "a list of accounts", field.to_owned()).into());
            }
        };
        let accounts = list.read(max, convert, too_many)?;
        match list.wrong_item() {
            None => Ok(accounts),
            Some((index, kind)) => {
                Err(type_error(kind, "text or an integer", format!("{field}[{index}]")).into())
            }
        }
    }
}

/// The fields of a message while they are read.
#[derive(Default)]
struct FoundFields<'a> {
    /// The first fields, at most [`MAX_FIELDS`].
    fields: Vec<(Cow<'a, str>, Option<Value<'a>>)>,
    count: usize,
}

impl<'a> FoundFields<'a> {
    fn add(&mut self, name: Cow<'a, str>, value: Option<Value<'a>>) {
        self.count += 1;
        if self.count <= MAX_FIELDS {
            self.fields.push((name, value));
        }
    }

    fn check(self) -> Result<JsonObject<'a>, Malformed> {
        let Self { fields, count } = self;
        if count > MAX_FIELDS {
            return Err(Malformed::TooManyFields(count));
        }
        for (at, (name, _)) in fields.iter().enumerate() {
            if fields[..at].iter().any(|(other, _)| other == name) {
                return Err(Malformed::Duplicate(name.chars().take(64).collect()));
            }
        }
        Ok(JsonObject(fields))
    }
}

/// Reads the fields of an object, and keeps those with one of these names.
struct FieldsVisitor<'f> {
    fields: &'f [&'f str],
}

impl<'de> Visitor<'de> for FieldsVisitor<'_> {
    type Value = FoundFields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FoundFields<'de>, A::Error> {
        let mut found = FoundFields { fields: Vec::with_capacity(8), count: 0 };
        while let Some(Name(name)) = map.next_key()? {
            let value = if self.fields.contains(&&*name) {
                Some(map.next_value()?)
            } else {
                let SkippedValue(_) = map.next_value()?;
                None
            };
            found.add(name, value);
        }
        Ok(found)
    }
}

fn type_error(got: JsonKind, expected: &'static str, field: String) -> FieldError {
    FieldError { field, expected, got }
}

fn account<'v>(value: &'v Value<'_>, field: &str) -> Result<Cow<'v, str>, FieldError> {
    match value {
        Value::Text(text) => Ok(Cow::Borrowed(text)),
        Value::Integer(integer) => Ok(Cow::Owned(integer.to_string())),
        other => Err(type_error(other.kind(), "text or an integer", field.to_owned())),
    }
}

/// An error of `serde_json`, in words for the author of the text.
#[must_use]
pub fn explain_json_error(error: &str) -> String {
    const WORDS: [(&str, &str); 4] = [
        ("unexpected end of hex escape", "a lone surrogate"),
        ("lone leading surrogate in hex escape", "a lone surrogate"),
        ("number out of range", "a number is too large"),
        ("invalid unicode code point", "invalid UTF-8"),
    ];
    let matched = WORDS.iter().find_map(|(matched, replacement)| {
        let position = error.strip_prefix(matched)?;
        Some(format!("{replacement}{position}"))
    });
    matched.unwrap_or_else(|| error.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIELDS: [&str; 7] = ["a", "b", "c", "member", "opUser", "title", "version"];

    fn parse(json: &[u8]) -> Result<JsonObject<'_>, Malformed> {
        JsonObject::parse(json, &FIELDS)
    }

    fn object(json: &str) -> JsonObject<'_> {
        parse(json.as_bytes()).unwrap()
    }

    fn accounts(object: &JsonObject<'_>, field: &str) -> Result<Vec<String>, FieldError> {
        object.accounts(field, 9, |_, name| Ok(name.to_owned()), |error| panic!("{error}"))
    }

    fn names(json: &str) -> Result<Vec<String>, FieldError> {
        accounts(&object(json), "member")
    }

    #[test]
    fn null_and_empty_count_as_absent() {
        let object = object(r#"{"a": null, "b": "", "c": []}"#);
        for field in ["a", "b", "c", "none"] {
            assert_eq!(object.text(field), Ok(None));
            assert_eq!(object.account(field), Ok(None));
            assert_eq!(object.integer(field), Ok(None));
            assert_eq!(accounts(&object, field), Ok(vec![]));
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
            let error = parse(json.as_bytes()).unwrap_err();
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
            let error = parse(json.as_bytes()).unwrap_err();
            assert!(matches!(error, Malformed::NotJson(_)), "{json}: {error}");
        }
        let error = parse(b"{\"a\": \"\xff\"}").unwrap_err();
        assert!(error.to_string().starts_with("not JSON: invalid UTF-8"), "{error}");
    }

    #[test]
    fn surrogate_and_number_errors_are_clear() {
        let error = |json: &str| parse(json.as_bytes()).unwrap_err().to_string();
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
        let duplicate = |json: &str| parse(json.as_bytes()).unwrap_err().to_string();
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
        let error = parse(json.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "at most 256 fields, got 50000");
    }

    #[test]
    fn unused_fields_and_inner_values_are_not_kept() {
        let trees = "[[0]],".repeat(100_000);
        let json =
            format!(r#"{{"x":[{trees}0],"y":{{"z":[{trees}0]}},"member":[{trees}0],"a":7}}"#);
        let object = object(&json);
        let kept: Vec<_> = object.0.iter().map(|(name, value)| (&**name, value)).collect();
        assert!(matches!(
            &kept[..],
            [("x", None), ("y", None), ("member", Some(Value::List(list))), ("a", Some(Value::Integer(_)))]
                if list.wrong_item() == Some((0, JsonKind::List))
        ));
        let error = accounts(&object, "member").unwrap_err();
        assert_eq!(error.to_string(), "member[0]: must be text or an integer, got a list");
    }

    #[test]
    fn form_fields_are_text() {
        let form = form_urlencoded::parse(b"buin=7&appId=a&encrypt=%2B%2F%3D");
        let object = JsonObject::from_form(form, &["encrypt"]).unwrap();
        assert_eq!(object.text("encrypt"), Ok(Some("+/=")));
        let twice = form_urlencoded::parse(b"a=1&a=2");
        assert!(JsonObject::from_form(twice, &[]).is_err());
        let many = (0..500_000).map(|_| (Cow::Borrowed("a"), Cow::Borrowed("")));
        let error = JsonObject::from_form(many, &["a"]).unwrap_err();
        assert_eq!(error, Malformed::TooManyFields(500_000));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn text_round_trips(text in "\\PC{1,80}") {
            let json = serde_json::json!({ "title": text }).to_string();
            let object = object(&json);
            prop_assert_eq!(object.text("title"), Ok(Some(text.as_str())));
        }
    }
}
