//! Lists of which only the first items are kept, so that a list that is too long takes no memory before
//! it is refused.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::http::v1::problem::{Code, Problem};
use crate::wire::SkippedValue;

/// The first `MAX` items of a list, and the number of all its items.
#[derive(Debug)]
pub(crate) struct BoundedList<T, const MAX: usize> {
    items: Vec<T>,
    len: usize,
}

impl<T, const MAX: usize> BoundedList<T, MAX> {
    /// The items, of which there must be 1 to `MAX`.
    ///
    /// # Errors
    /// The problem of the field `field` with another number of items.
    pub(crate) fn read(self, field: &'static str) -> Result<Vec<T>, Problem> {
        let wrong = |side: &str, limit: usize| {
            let reason = format!("at {side} {limit}, got {}", self.len);
            Problem::for_field(Code::InvalidField, field, reason).with_limit(limit, self.len)
        };
        match self.len {
            0 => Err(wrong("least", 1)),
            len if len > MAX => Err(wrong("most", MAX)),
            _ => Ok(self.items),
        }
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for BoundedList<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVisitor(PhantomData))
    }
}

struct BoundedVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedVisitor<T, MAX> {
    type Value = BoundedList<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = BoundedList { items: Vec::new(), len: 0 };
        while list.len < MAX
            && let Some(item) = items.next_element()?
        {
            list.items.push(item);
            list.len += 1;
        }
        while list.len >= MAX
            && let Some(SkippedValue(_)) = items.next_element()?
        {
            list.len += 1;
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_beyond_the_limit_are_counted_and_not_kept() {
        let read = |json: &str| serde_json::from_str::<BoundedList<String, 2>>(json);
        for (json, expected) in [
            ("[]", Err("invalid_field ids: at least 1, got 0")),
            (r#"["a"]"#, Ok(1)),
            (r#"["a","b"]"#, Ok(2)),
            (r#"["a","b",{"c":[]},4]"#, Err("invalid_field ids: at most 2, got 4")),
        ] {
            let found = read(json).unwrap().read("ids").map(|items| items.len());
            assert_eq!(
                found.map_err(|problem| problem.to_string()),
                expected.map_err(str::to_owned)
            );
        }
        let many = format!("[{}0]", "0,".repeat(99_999));
        let list = serde_json::from_str::<BoundedList<u8, 2>>(&many).unwrap();
        assert_eq!((list.items.len(), list.len), (2, 100_000));
        for json in [r#"["a",1]"#, r#"["a","b","\ud800"]"#, "{}"] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
