//! Lists of accounts as they come from a client: unchecked, and possibly very long.
//!
//! A list is kept in one buffer, so that it takes little more memory than its JSON. A value for each
//! account would take many times as much.

use std::collections::HashSet;
use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::skipped::{JsonKind, skip_fields, skip_items, whole_number};

/// The accounts of a list, in their order, and the first item that is no account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountTexts {
    text: String,
    /// The end of each account in `text`.
    ends: Vec<u32>,
    /// The type of the first item that is no account. The items after it are not kept.
    wrong: Option<JsonKind>,
}

/// A list has more different accounts than any session can have members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at most {max} accounts, got {got}")]
pub struct TooManyAccounts {
    /// The limit.
    pub max: usize,
    /// The number of accounts in the list, repeated ones included.
    pub got: usize,
}

impl AccountTexts {
    /// Appends an account.
    pub fn push(&mut self, account: &str) {
        self.text.push_str(account);
        self.end_account();
    }

    /// Appends the decimal digits of a whole number.
    pub fn push_number(&mut self, number: impl fmt::Display) {
        // Writing to a string never fails.
        let _ = write!(self.text, "{number}");
        self.end_account();
    }

    fn end_account(&mut self) {
        // A body is at most 1 GiB (`limits.max_body_bytes`), so all lengths fit into u32.
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    /// The number of accounts, repeated ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether the list has no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.wrong.is_none()
    }

    /// The first item that is no account: its index and its type.
    pub(super) fn wrong_item(&self) -> Option<(usize, JsonKind)> {
        self.wrong.map(|kind| (self.len(), kind))
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let end = *end as usize;
            let account = self.text.get(start..end).unwrap_or_default();
            start = end;
            account
        })
    }

    /// Converts the accounts. `convert` gets the index of each one in the list. A list of more than
    /// `max` accounts is read without the repeated ones, until it has one different account more than
    /// `max + 1`: a list of `max + 1` accounts may hold one that is known already.
    ///
    /// # Errors
    /// The first error of `convert`, or that of `too_many`.
    pub fn read<T, E>(
        &self,
        max: usize,
        convert: impl Fn(usize, &str) -> Result<T, E>,
        too_many: impl FnOnce(TooManyAccounts) -> E,
    ) -> Result<Vec<T>, E> {
        let is_long = self.len() > max;
        let mut seen = HashSet::new();
        let mut accounts = Vec::with_capacity(self.len().min(max.saturating_add(1)));
        for (index, account) in self.iter().enumerate() {
            if is_long && !seen.insert(account) {
                continue;
            }
            if accounts.len() > max {
                return Err(too_many(TooManyAccounts { max, got: self.len() }));
            }
            accounts.push(convert(index, account)?);
        }
        Ok(accounts)
    }
}

/// Reads an item of a list, and appends it.
pub(super) struct PushItem<'t>(pub(super) &'t mut AccountTexts);

impl PushItem<'_> {
    fn append(self, push: impl FnOnce(&mut AccountTexts)) {
        if self.0.wrong.is_none() {
            push(self.0);
        }
    }

    fn refuse(self, kind: JsonKind) {
        self.0.wrong.get_or_insert(kind);
    }
}

impl<'de> DeserializeSeed<'de> for PushItem<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PushItem<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.refuse(JsonKind::Null);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.refuse(JsonKind::Boolean);
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        match whole_number(number) {
            Some(number) => self.append(|texts| texts.push_number(number)),
            None => self.refuse(JsonKind::Fraction),
        }
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.append(|texts| texts.push_number(number));
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.append(|texts| texts.push_number(number));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.append(|texts| texts.push(text));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        self.refuse(JsonKind::List);
        skip_items(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.refuse(JsonKind::Object);
        skip_fields(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(accounts: &[&str]) -> AccountTexts {
        let mut texts = AccountTexts::default();
        accounts.iter().for_each(|account| texts.push(account));
        texts
    }

    fn read(texts: &AccountTexts, max: usize) -> Result<Vec<String>, TooManyAccounts> {
        texts.read(max, |index, account| Ok(format!("{index}{account}")), |error| error)
    }

    #[test]
    fn accounts_keep_their_order_and_indexes() {
        let mut texts = list(&["a", "", "项", "a"]);
        texts.push_number(-7);
        assert_eq!(texts.len(), 5);
        assert_eq!(read(&texts, 5).unwrap(), ["0a", "1", "2项", "3a", "4-7"]);
        assert_eq!(read(&AccountTexts::default(), 0).unwrap(), [""; 0]);
    }

    #[test]
    fn long_list_is_read_until_it_has_too_many_accounts() {
        // Repeated accounts count once in a list that is longer than the limit.
        assert_eq!(read(&list(&["a", "b", "a", "b", "c"]), 2).unwrap(), ["0a", "1b", "4c"]);
        let too_many = TooManyAccounts { max: 2, got: 6 };
        assert_eq!(read(&list(&["a", "b", "a", "c", "d", "e"]), 2), Err(too_many));
        assert_eq!(too_many.to_string(), "at most 2 accounts, got 6");
        // No more than `max + 1` accounts are converted.
        let calls = std::cell::Cell::new(0);
        let many: Vec<String> = (0..15_000).map(|number| number.to_string()).collect();
        let many = list(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let count = |_, _: &str| {
            calls.set(calls.get() + 1);
            Ok(())
        };
        assert!(many.read(2_000, count, |error| error).is_err());
        assert_eq!(calls.get(), 2_001);
    }

    #[test]
    fn list_takes_little_more_memory_than_its_json() {
        let mut texts = AccountTexts::default();
        let json_len = (0..500_000).map(|number| number.to_string().len() + 1).sum::<usize>();
        (0..500_000).for_each(|number| texts.push_number(number));
        let taken = texts.text.capacity() + 4 * texts.ends.capacity();
        assert!(taken < 2 * json_len, "{taken} bytes for {json_len}");
    }
}
