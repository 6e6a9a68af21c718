//! Queries from existing clients: parameters in any order, and a bare `?` at the end.
//!
//! Queries are read as leniently as forms: invalid percent-encoding counts as plain text.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3};
use percent_encoding::percent_decode_str;

use super::Malformed;

/// The decoded value of a query parameter; `None` if absent.
///
/// # Errors
/// [`Malformed::Duplicate`] if the parameter appears more than once.
pub fn query_value<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, Malformed> {
    // One client ends every URL with a bare `?`. No token or session id contains it.
    let query = query.trim_end_matches('?');
    let mut values = pairs(query).filter_map(|pair| value_of(pair, name));
    let value = values.next();
    match values.next() {
        None => Ok(value),
        Some(_) => Err(Malformed::Duplicate(name.to_owned())),
    }
}

/// The parts between `&`. A query has few parts, and most of them are long.
fn pairs(query: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(query);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = memchr(b'&', text.as_bytes());
        rest = end.map(|end| &text[end + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    })
}

/// The value of a pair if it has this name. Usual names are not encoded, and usual values need little decoding.
fn value_of<'a>(pair: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let bytes = pair.as_bytes();
    match memchr3(b'=', b'%', b'+', bytes) {
        None => (pair == name).then_some(Cow::Borrowed("")),
        Some(at) if bytes[at] == b'=' => {
            (&pair[..at] == name).then(|| decode_value(&pair[at + 1..]))
        }
        Some(_) => {
            let (found, value) = form_urlencoded::parse(bytes).next()?;
            (found == name).then(|| Cow::Owned(value.into_owned()))
        }
    }
}

/// Decodes a value.
fn decode_value(value: &str) -> Cow<'_, str> {
    let mut rest = value;
    let mut text = String::new();
    while let Some(at) = memchr2(b'%', b'+', rest.as_bytes()) {
        let Some(byte) = decode_ascii_escape(&rest.as_bytes()[at..]) else {
            let spaced = value.replace('+', " ");
            return Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned());
        };
        text.reserve(rest.len());
        text.push_str(&rest[..at]);
        text.push(char::from(byte));
        rest = &rest[at + 3..];
    }
    if rest.len() == value.len() {
        return Cow::Borrowed(value);
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The ASCII character of `%` and two digits at the beginning, if `encoded` begins with such an
/// escape.
fn decode_ascii_escape(encoded: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = encoded else { return None };
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    byte.is_ascii().then_some(byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn queries_are_parsed_as_forms(query in "[ab=&%+?27B项]{0,24}") {
            let form = query.trim_end_matches('?').as_bytes();
            let values = form_urlencoded::parse(form).filter(|(found, _)| found == "b");
            let values: Vec<_> = values.map(|(_, value)| value).collect();
            let found = match &values[..] {
                [] => Ok(None),
                [value] => Ok(Some(value.clone())),
                _ => Err(Malformed::Duplicate("b".to_owned())),
            };
            prop_assert_eq!(query_value(&query, "b"), found);
        }
    }

    #[test]
    fn values_are_decoded_if_escaped() {
        let value = |text: &str| Ok(Some(Cow::<str>::Owned(text.to_owned())));
        for (query, found) in [
            ("a=1&b=2", value("2")),
            ("b=2?", value("2")),
            ("b", value("")),
            ("b=", value("")),
            ("%62=%7B2%7D", value("{2}")),
            ("b=x+y%2B", value("x y+")),
            ("b=a=b", value("a=b")),
            ("b=%7B%E9%A1%B9%7d%", value("{项}%")),
            ("b=%%7B%7%G1", value("%{%7%G1")),
            ("b=%FFx", value("\u{fffd}x")),
            ("b=%7B1%2B+%E9%A1%B9+", value("{1+ 项 ")),
            ("b=%4", value("%4")),
            ("a%62=1&ab=2&b", value("")),
            ("c=1&&bb=2", Ok(None)),
            ("", Ok(None)),
            ("b=1&%62=1", Err(Malformed::Duplicate("b".to_owned()))),
        ] {
            assert_eq!(query_value(query, "b"), found, "{query}");
        }
    }
}
