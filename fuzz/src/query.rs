//! Queries of `/cgi`. The reader, which decodes only what is needed, is compared with one that
//! decodes everything.

use std::borrow::Cow;

use form_urlencoded::Serializer;
use muster::wire::{Malformed, query_value};

const NAMES: [&str; 3] = ["accessToken", "sessionId", "a"];

pub fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for name in NAMES {
        assert_eq!(query_value(text, name), decode_all(text, name), "{name}");
    }
    // An encoded value is decoded, at any place in the query.
    let pair = Serializer::new(String::new()).append_pair("sessionId", text).finish();
    for whole in [pair.clone(), format!("{pair}?"), format!("a=1&&{pair}"), format!("{pair}&b")] {
        assert_eq!(query_value(&whole, "sessionId"), Ok(Some(Cow::Borrowed(text))));
    }
    assert!(query_value(&format!("{pair}&{pair}"), "sessionId").is_err());
}

fn decode_all<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, Malformed> {
    let query = query.trim_end_matches('?');
    let pairs = form_urlencoded::parse(query.as_bytes());
    let values: Vec<_> =
        pairs.filter(|(found, _)| found == name).map(|(_, value)| value.into_owned()).collect();
    match &values[..] {
        [] => Ok(None),
        [value] => Ok(Some(Cow::Owned(value.clone()))),
        _ => Err(Malformed::Duplicate(name.to_owned())),
    }
}
