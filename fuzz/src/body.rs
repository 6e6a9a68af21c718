//! Bodies of `/cgi`, as JSON and as forms. The fields that the lenient reader finds are compared
//! with those of `serde_json`.

use muster::domain::{Account, Buin, SessionId, Title, Version};
use muster::wire::{FieldError, JsonObject, Malformed};
use serde_json::Value;

/// The fields of calls, and two unknown fields.
const FIELDS: [&str; 14] = [
    "buin",
    "appId",
    "encrypt",
    "title",
    "creator",
    "type",
    "member",
    "sessionId",
    "opUser",
    "addMember",
    "delMember",
    "version",
    "x",
    "",
];
/// The maximum length of an errmsg, for any input.
const MAX_REASON_BYTES: usize = 512;

pub fn body(data: &[u8]) {
    check_json(data);
    check_form(data);
}

fn check_json(data: &[u8]) {
    let expected = serde_json::from_slice::<Value>(data);
    let object = match JsonObject::parse(data, &FIELDS) {
        Ok(object) => object,
        Err(why) => {
            assert_short(&why.to_string());
            match why {
                Malformed::NotJson(_) => assert!(expected.is_err()),
                Malformed::NotAnObject(_) => assert!(!expected.unwrap().is_object()),
                Malformed::Duplicate(_) | Malformed::TooManyFields(_) => {
                    assert!(expected.unwrap().is_object());
                }
            }
            return;
        }
    };
    let expected = expected.unwrap();
    let expected = expected.as_object().unwrap();
    assert!(expected.len() <= 256);
    for field in FIELDS {
        let value = expected.get(field).unwrap_or(&Value::Null);
        assert_eq!(object.has(field), !value.is_null());
        check_readers(&object, field, value);
    }
}

/// Each way to read a field returns its value, or an error about its type.
fn check_readers(object: &JsonObject<'_>, field: &str, value: &Value) {
    let absent = value.is_null() || *value == "" || value.as_array().is_some_and(Vec::is_empty);
    let text = value.as_str();
    let whole = whole(value);

    expect_value(object.text(field), absent, text.as_ref());
    expect_value(object.text_or_empty(field), value.is_null(), text.as_ref());
    let integer = object.integer(field).map(|found| found.map(|integer| integer.to_string()));
    expect_value(integer, absent, whole.as_ref());
    if let Ok(Some(integer)) = object.integer(field) {
        assert_eq!(integer.to_i64(), whole.and_then(|text| text.parse().ok()));
        let number = integer.to_i64().unwrap_or(0);
        assert_eq!(Buin::new(number).is_ok(), number > 0);
        assert_eq!(Version::new(number).is_ok(), number > 0);
    }
    expect_value(
        object.account(field).map(|found| found.map(String::from)),
        absent,
        account(value).as_ref(),
    );

    let convert = |place, text: &str| Ok::<_, FieldError>((place, text.to_owned()));
    let too_many = |error| panic!("{error}");
    let accounts = object.accounts(field, usize::MAX, convert, too_many);
    let expected: Option<Vec<_>> = value
        .as_array()
        .and_then(|items| items.iter().map(account).collect::<Option<Vec<_>>>())
        .map(|items| items.into_iter().enumerate().collect());
    let expected = if absent { Some(Vec::new()) } else { expected };
    expect_value(accounts.map(Some), false, expected.as_ref());

    if let Some(text) = text {
        check_values(text);
    }
}

fn expect_value<T: std::fmt::Debug + PartialEq>(
    found: Result<Option<T>, FieldError>,
    absent: bool,
    expected: Option<&T>,
) {
    match found {
        Ok(None) => assert!(absent),
        Ok(found) => {
            assert!(!absent);
            assert_eq!(found.as_ref(), expected);
        }
        Err(why) => {
            assert!(!absent && expected.is_none(), "{why}");
            assert_short(&why.to_string());
        }
    }
}

fn account(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        _ => whole(value),
    }
}

/// The digits of a whole number, however it is written.
fn whole(value: &Value) -> Option<String> {
    let Value::Number(number) = value else { return None };
    if !number.is_f64() {
        return Some(number.to_string());
    }
    let number = number.as_f64()?;
    let is_exact = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
    let is_negative_zero = number == 0.0 && number.is_sign_negative();
    (is_exact && !is_negative_zero).then(|| format!("{number:.0}"))
}

/// The rules of sessions keep a text byte for byte, or refuse it with a short reason.
fn check_values(text: &str) {
    let length = text.chars().count();
    let plain = (1..=64).contains(&length) && !text.contains(char::is_control);
    match Account::new(text) {
        Ok(account) => assert!(plain && account.as_str() == text),
        Err(why) => {
            assert!(!plain);
            assert_short(&why.to_string());
        }
    }
    match Title::new(text) {
        Ok(title) => assert!(plain && !text.trim().is_empty() && title.as_str() == text),
        Err(why) => {
            assert!(!plain || text.trim().is_empty());
            assert_short(&why.to_string());
        }
    }
    if let Err(why) = text.parse::<SessionId>() {
        assert_short(&why.to_string());
    }
}

/// A form is an object of text.
fn check_form(data: &[u8]) {
    let pairs: Vec<_> = form_urlencoded::parse(data).collect();
    match JsonObject::from_form(pairs.iter().cloned(), &FIELDS) {
        Ok(object) => {
            for field in FIELDS {
                let expected = pairs.iter().find(|(name, _)| name == field);
                let expected = expected.map(|(_, text)| text.as_ref());
                assert_eq!(object.text_or_empty(field), Ok(expected));
            }
        }
        Err(why) => assert_short(&why.to_string()),
    }
}

fn assert_short(reason: &str) {
    assert!(reason.len() <= MAX_REASON_BYTES, "{reason}");
}
