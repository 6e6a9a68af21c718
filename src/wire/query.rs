//! Queries as existing clients write them: the parameters in any order, and a bare `?` at the end.
//!
//! Read as forms are, which is leniently: what is encoded wrongly is taken as it stands.

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use percent_encoding::percent_decode_str;

use super::Malformed;

/// The value of a query parameter, decoded; `None` if it is not there.
///
/// # Errors
/// [`Malformed::Duplicate`]: like a field of a message it may stand there once.
pub fn query_value<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, Malformed> {
    // One client ends every URL with a bare `?`, which no token or session id has.
    let query = query.trim_end_matches('?');
    let mut values = query.split('&').filter_map(|pair| value_of(pair, name));
    let value = values.next();
    match values.next() {
        None => Ok(value),
        Some(_) => Err(Malformed::Duplicate(name.to_owned())),
    }
}

/// The value of a pair if it has this name. The usual ones need little decoding.
fn value_of<'a>(pair: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let is_plain = |text: &str| memchr2(b'%', b'+', text.as_bytes()).is_none();
    let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
    if is_plain(found) {
        if found != name {
            return None;
        }
        if is_plain(value) {
            return Some(Cow::Borrowed(value));
        }
        if memchr(b'+', value.as_bytes()).is_none() {
            return Some(percent_decode_str(value).decode_utf8_lossy());
        }
    }
    let (found, value) = form_urlencoded::parse(pair.as_bytes()).next()?;
    (found == name).then(|| Cow::Owned(value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
