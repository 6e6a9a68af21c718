//! Queries as existing clients write them: the parameters in any order, and a bare `?` at the end.
//!
//! Read as forms are, which is leniently: what is encoded wrongly is taken as it stands.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::Malformed;

/// The value of a query parameter, decoded; `None` if it is not there.
///
/// # Errors
/// [`Malformed::Duplicate`]: like a field of a message it may stand there once.
pub fn query_value<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, Malformed> {
    // One client ends every URL with a bare `?`, which no token or session id has.
    let query = query.trim_end_matches('?');
    let mut rest = Some(query);
    let pairs = std::iter::from_fn(|| {
        let (pair, further) = split_at(rest?, b'&');
        rest = further;
        Some(pair)
    });
    let mut values = pairs.filter_map(|pair| value_of(pair, name));
    let value = values.next();
    match values.next() {
        None => Ok(value),
        Some(_) => Err(Malformed::Duplicate(name.to_owned())),
    }
}

/// The value of a pair if it has this name. The usual ones need little decoding.
fn value_of<'a>(pair: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let is_plain = |text: &str| memchr2(b'%', b'+', text.as_bytes()).is_none();
    let (found, value) = split_at(pair, b'=');
    let value = value.unwrap_or_default();
    if is_plain(found) {
        if found != name {
            return None;
        }
        if is_plain(value) {
            return Some(Cow::Borrowed(value));
        }
        if memchr(b'+', value.as_bytes()).is_none() {
            return Some(Cow::Owned(decoded(value)));
        }
    }
    let (found, value) = form_urlencoded::parse(pair.as_bytes()).next()?;
    (found == name).then(|| Cow::Owned(value.into_owned()))
}

/// A text without its percent signs: what is between them is copied as it stands.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let (plain, mut rest) = split_at(text, b'%');
    bytes.extend_from_slice(plain.as_bytes());
    while let Some(after) = rest {
        let (part, further) = split_at(after, b'%');
        rest = further;
        let part = match part.as_bytes() {
            [high, low, part @ ..] if let (Some(high), Some(low)) = (digit(*high), digit(*low)) => {
                bytes.push(high << 4 | low);
                part
            }
            part => {
                bytes.push(b'%');
                part
            }
        };
        bytes.extend_from_slice(part);
    }
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> Option<u8> {
    // Less than sixteen.
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// A text before the first `character`, an ASCII one, and after it.
fn split_at(text: &str, character: u8) -> (&str, Option<&str>) {
    match memchr(character, text.as_bytes()) {
        Some(place) => (&text[..place], Some(&text[place + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_like_everywhere(text in "([%0-9a-fA-F]|.){0,40}") {
            prop_assert_eq!(decoded(&text), percent_decode_str(&text).decode_utf8_lossy());
        }
    }

    #[test]
    fn values_are_decoded_where_they_need_it() {
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
            ("c=1&&bb=2", Ok(None)),
            ("", Ok(None)),
            ("b=1&%62=1", Err(Malformed::Duplicate("b".to_owned()))),
        ] {
            assert_eq!(query_value(query, "b"), found, "{query}");
        }
    }
}
