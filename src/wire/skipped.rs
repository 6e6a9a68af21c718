//! JSON that is read and dropped: only its type is left, so that it takes no memory.
//!
//! Dropped content is still checked. `IgnoredAny` of serde would accept lone surrogates in it, and any
//! depth. `serde_json` stops at a depth of 128.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

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

/// A value of any kind that was read and dropped: only its type is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkippedValue(pub JsonKind);

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

/// Reads the rest of a list, and drops it.
pub(super) fn skip_items<'de, A: SeqAccess<'de>>(mut items: A) -> Result<(), A::Error> {
    while let Some(SkippedValue(_)) = items.next_element()? {}
    Ok(())
}

/// Reads the rest of an object, and drops it.
pub(super) fn skip_fields<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while let Some((SkippedValue(_), SkippedValue(_))) = map.next_entry()? {}
    Ok(())
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

impl<'de> Deserialize<'de> for SkippedValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SkippingVisitor;

        impl<'de> Visitor<'de> for SkippingVisitor {
            type Value = JsonKind;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<JsonKind, E> {
                Ok(JsonKind::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<JsonKind, E> {
                Ok(JsonKind::Boolean)
            }

            fn visit_f64<E>(self, number: f64) -> Result<JsonKind, E> {
                let whole = whole_number(number).map(|_| JsonKind::Integer);
                Ok(whole.unwrap_or(JsonKind::Fraction))
            }

            fn visit_i64<E>(self, _: i64) -> Result<JsonKind, E> {
                Ok(JsonKind::Integer)
            }

            fn visit_u64<E>(self, _: u64) -> Result<JsonKind, E> {
                Ok(JsonKind::Integer)
            }

            fn visit_str<E>(self, _: &str) -> Result<JsonKind, E> {
                Ok(JsonKind::Text)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<JsonKind, A::Error> {
                skip_items(items)?;
                Ok(JsonKind::List)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<JsonKind, A::Error> {
                skip_fields(map)?;
                Ok(JsonKind::Object)
            }
        }

        deserializer.deserialize_any(SkippingVisitor).map(Self)
    }
}
