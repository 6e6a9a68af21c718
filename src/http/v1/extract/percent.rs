//! Percent-encoding, read strictly: invalid UTF-8 or an invalid escape is an error.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Text that cannot be decoded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("`%` must be followed by two hexadecimal digits")]
    Percent,
    #[error("must be UTF-8")]
    Utf8,
}

/// Decodes text of a path. In a query, the caller must first replace every `+` by a space.
pub(crate) fn decode(text: &str) -> Result<Cow<'_, str>, DecodeError> {
    let is_encoded = |rest: &str| {
        rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_encoded) {
        return Err(DecodeError::Percent);
    }
    percent_decode_str(text).decode_utf8().map_err(|_| DecodeError::Utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_escapes_are_refused() {
        assert_eq!(decode("a%2fb%2525+").unwrap(), "a/b%25+");
        assert_eq!(decode("%E9%A1%B9").unwrap(), "项");
        for text in ["%", "%2", "a%zz", "%%20", "%2\u{e9}"] {
            assert_eq!(decode(text), Err(DecodeError::Percent), "{text}");
        }
        assert_eq!(decode("%ff"), Err(DecodeError::Utf8));
    }
}
