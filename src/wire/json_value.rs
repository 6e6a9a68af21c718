//! One JSON value of a lenient message. Only the part that a field can use is kept: text, numbers and
//! lists of accounts. All other content is skipped.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::account_texts::{AccountTexts, PushItem};
use super::skipped::{JsonKind, skip_fields, whole_number};

/// A JSON value that borrows its text if the text has no escapes.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Null,
    Boolean,
    /// A number that is not whole, is too large, or is `-0`.
    Fraction,
    Integer(Integer),
    Text(Cow<'a, str>),
    List(AccountTexts),
    Object,
}

/// A signed or unsigned integer of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer(i128);

/// The name of a field. `Cow` itself would always be read as an owned string.
pub(super) struct Name<'a>(pub(super) Cow<'a, str>);

impl Value<'_> {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Text(text) => text.is_empty(),
            Value::List(accounts) => accounts.is_empty(),
            _ => false,
        }
    }

    pub(super) fn kind(&self) -> JsonKind {
        match self {
            Value::Null => JsonKind::Null,
            Value::Boolean => JsonKind::Boolean,
            Value::Fraction => JsonKind::Fraction,
            Value::Integer(_) => JsonKind::Integer,
            Value::Text(_) => JsonKind::Text,
            Value::List(_) => JsonKind::List,
            Value::Object => JsonKind::Object,
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
                let mut accounts = AccountTexts::default();
                while let Some(()) = items.next_element_seed(PushItem(&mut accounts))? {}
                Ok(Value::List(accounts))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value<'de>, A::Error> {
                skip_fields(map)?;
                Ok(Value::Object)
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}

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
