//! Whole numbers in bodies. In JSON Schema `3.0` is a whole number too, and some clients write it.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use crate::domain::Version;
use crate::http::v1::problem::{Code, Problem};
use crate::wire::whole_number;

/// A version: 1 when the session is created, plus 1 for each change.
#[derive(Clone, Copy, Debug, ToSchema)]
#[schema(as = Version, value_type = i64, minimum = 1, examples(3))]
pub(crate) struct VersionNumber(i64);

impl VersionNumber {
    /// The version in the field `version` of a body.
    pub(crate) fn read(self) -> Result<Version, Problem> {
        Version::new(self.0)
            .map_err(|error| Problem::invalid(Code::InvalidField, "version", &error))
    }
}

impl<'de> Deserialize<'de> for VersionNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        WholeNumber::deserialize(deserializer).map(|WholeNumber(number)| Self(number))
    }
}

/// A whole number in any notation of JSON: `3`, `3.0` or `3e0`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WholeNumber(pub(crate) i64);

impl<'de> Deserialize<'de> for WholeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerVisitor;

        impl Visitor<'_> for IntegerVisitor {
            type Value = i64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of 64 bits")
            }

            fn visit_i64<E>(self, number: i64) -> Result<i64, E> {
                Ok(number)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<i64, E> {
                number.try_into().map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<i64, E> {
                whole_number(number).ok_or_else(|| E::invalid_value(described(number), &self))
            }
        }

        deserializer.deserialize_any(IntegerVisitor).map(Self)
    }
}

/// The words for a number that is not accepted. The parser has rounded a large one, and does not tell
/// `-0` from `-0.0`, so these are not repeated.
fn described(number: f64) -> Unexpected<'static> {
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    if number == 0.0 {
        Unexpected::Other("negative zero")
    } else if number.abs() > MAX_EXACT {
        Unexpected::Other("a number beyond 2^53 with a fraction or an exponent, or beyond 64 bits")
    } else {
        Unexpected::Float(number)
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    #[test]
    fn integer_is_accepted_in_every_notation() {
        let read = |text: &str| serde_json::from_str::<VersionNumber>(text).map(|number| number.0);
        for (text, number) in [
            ("3", 3),
            ("3.0", 3),
            ("3e0", 3),
            ("0.3e1", 3),
            ("-1", -1),
            ("9223372036854775807", i64::MAX),
            ("580697182291801.0", 580_697_182_291_801),
        ] {
            assert_eq!(read(text).unwrap(), number, "{text}");
        }
        for text in [
            "3.5",
            "-0",
            "9007199254740994.0",
            "9223372036854775808",
            "1e30",
            "\"3\"",
            "null",
            "true",
            "[3]",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[derive(Debug, Deserialize)]
    struct VersionBody {
        #[serde(rename = "version")]
        _version: VersionNumber,
    }

    #[test]
    fn error_repeats_a_number_only_as_it_was_sent() {
        let large = "a number beyond 2^53 with a fraction or an exponent, or beyond 64 bits";
        for (text, got) in [
            ("3.5", "3.5"),
            ("9223372036854775808", "9223372036854775808"),
            ("9007199254740993.0", large),
            ("1e30", large),
            ("-0", "negative zero"),
            ("-0.0", "negative zero"),
        ] {
            let body = format!("{{\"version\":{text}}}");
            let problem = json::read::<VersionBody>(body.as_bytes()).unwrap_err().to_string();
            let end = format!("must be a whole number of 64 bits, got {got}");
            assert!(problem.ends_with(&end), "{text}: {problem}");
        }
    }
}
