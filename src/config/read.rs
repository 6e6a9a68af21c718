//! Converts layered values to typed values. An invalid value is recorded as a problem and replaced
//! by the default of its type. This default is never used: a problem prevents the settings.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ::config::{Value, ValueKind};
use ipnet::IpNet;

use super::address::{is_address, local_address_beside};
use super::effective::SettingValue;
use super::key_text::KeyText;
use super::log_filter::{DIRECTIVES, LogFilter};
use super::url::{DatabaseUrl, redact, redact_query};
use super::{ConfigProblem, duration};

/// The maximum length of a value in a message, in characters.
const MAX_QUOTED_CHARS: usize = 100;

pub(super) struct Reader<'a> {
    root: &'a Value,
    problems: &'a mut Vec<ConfigProblem>,
    /// The values that were read, with secrets masked as in messages.
    values: BTreeMap<String, SettingValue>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(root: &'a Value, problems: &'a mut Vec<ConfigProblem>) -> Self {
        Self { root, problems, values: BTreeMap::new() }
    }

    /// The values of all keys that were read. No secret is among them.
    pub(super) fn into_values(self) -> BTreeMap<String, SettingValue> {
        self.values
    }

    /// A whole number.
    pub(super) fn number<N>(&mut self, key: &str, range: RangeInclusive<i64>) -> N
    where
        N: TryFrom<i64> + Default,
    {
        let expected = format!("expected a whole number from {} to {}", range.start(), range.end());
        self.read_value(key, &expected, |kind| match kind {
            ValueKind::I64(number) if range.contains(number) => N::try_from(*number).ok(),
            _ => None,
        })
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &str) -> bool {
        self.read_value(key, "expected true or false", |kind| match kind {
            ValueKind::Boolean(value) => Some(*value),
            _ => None,
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy + Default>(&mut self, key: &str, words: &[(&str, T)]) -> T {
        let listed: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        self.text(key, &format!("expected {}", listed.join(" or ")), |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
        })
    }

    /// Seconds as a number, or text with units.
    pub(super) fn duration(&mut self, key: &str, range: RangeInclusive<Duration>) -> Duration {
        let range_text = duration::describe_range(&range);
        let expected =
            format!("expected a duration {range_text}, in seconds or as text such as \"90s\"");
        self.read_value(key, &expected, |kind| {
            duration::read(kind).filter(|value| range.contains(value))
        })
    }

    /// A [`duration`](Self::duration) in whole seconds, for formats without fractions.
    pub(super) fn whole_seconds(
        &mut self,
        key: &str,
        range: RangeInclusive<Duration>,
        expected: &str,
    ) -> Duration {
        let expected = format!("expected {expected}, in whole seconds or as text such as \"90s\"");
        self.read_value(key, &expected, |kind| {
            duration::read(kind).filter(|value| range.contains(value) && value.subsec_nanos() == 0)
        })
    }

    /// A list of durations, not empty.
    pub(super) fn durations(
        &mut self,
        key: &str,
        range: RangeInclusive<Duration>,
        expected: &str,
    ) -> Vec<Duration> {
        let expected = format!("expected {expected}, each in seconds or as text such as \"90s\"");
        self.read_value(key, &expected, |kind| match kind {
            ValueKind::Array(items) if !items.is_empty() => {
                let read_one =
                    |item: &Value| duration::read(&item.kind).filter(|value| range.contains(value));
                items.iter().map(read_one).collect()
            }
            _ => None,
        })
    }

    /// A list of networks, possibly empty.
    pub(super) fn networks(&mut self, key: &str) -> Vec<IpNet> {
        let expected = "expected a list of networks, each as \"10.0.0.0/8\" or \"fd00::/8\"";
        self.read_value(key, expected, |kind| {
            let ValueKind::Array(items) = kind else { return None };
            let network = |item: &Value| match &item.kind {
                ValueKind::String(text) => text.parse().ok(),
                _ => None,
            };
            items.iter().map(network).collect()
        })
    }

    /// A path that must be given.
    pub(super) fn path(&mut self, key: &str) -> PathBuf {
        self.text(key, "expected a path", |text| {
            (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
        })
    }

    /// A path; empty = `None`.
    pub(super) fn optional_path(&mut self, key: &str) -> Option<PathBuf> {
        self.optional(key, "expected a path, or nothing", str::to_owned, |text| {
            (!text.contains('\0')).then(|| PathBuf::from(text))
        })
    }

    /// A master key, which no message shows; empty = `None`.
    pub(super) fn optional_key(&mut self, key: &str) -> Option<KeyText> {
        let expected = format!("expected {}, or nothing", KeyText::EXPECTED);
        let hidden = |text: &str| if text.is_empty() { "" } else { "***" }.to_owned();
        self.optional(key, &expected, hidden, KeyText::parse)
    }

    /// `HOST:PORT`.
    pub(super) fn address(&mut self, key: &str) -> String {
        let expected = "expected HOST:PORT, such as \"127.0.0.1:7080\", \"[::1]:7080\" or \
                        \"localhost:7080\"";
        self.text(key, expected, |text| is_address(text).then(|| text.to_owned()))
    }

    /// `HOST:PORT`; empty = `None`; "auto" = on this machine, with a port far from that of `other`.
    pub(super) fn address_beside(&mut self, key: &str, other: &str) -> Option<String> {
        let expected = "expected \"auto\", or HOST:PORT, such as \"127.0.0.1:17080\", or nothing";
        let address = self.optional(key, expected, str::to_owned, |text| match text {
            "auto" => Some(local_address_beside(other)),
            text => is_address(text).then(|| text.to_owned()),
        });
        if let Some(address) = &address {
            self.values.insert(key.to_owned(), SettingValue::Text(address.clone()));
        }
        address
    }

    /// A URL of HTTP, converted by `parse`; empty = `None`. No message shows its query.
    pub(super) fn optional_url<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.optional(key, expected, redact_query, parse)
    }

    /// A PostgreSQL URL; empty = `None`.
    pub(super) fn database_url(&mut self, key: &str) -> Option<DatabaseUrl> {
        let problem = match self.find(key).map(|value| &value.kind) {
            Some(ValueKind::String(text)) => DatabaseUrl::parse(text).err(),
            _ => None,
        };
        let expected = problem.map_or_else(|| "expected text".to_owned(), |text| text.to_string());
        self.optional(key, &expected, redact, |text| DatabaseUrl::parse(text).ok())
    }

    /// Directives of a log filter.
    pub(super) fn log_filter(&mut self, key: &str) -> LogFilter {
        self.text(key, &format!("expected {DIRECTIVES}"), |text| LogFilter::parse(text).ok())
    }

    /// Records that the value of `key` is not in `relation` (such as "at most") to the value of
    /// `other`. Does nothing if one of the two keys has a problem already.
    pub(super) fn add_contradiction(&mut self, key: &str, relation: &str, other: &str) {
        if self.problems.iter().any(|problem| problem.key == key || problem.key == other) {
            return;
        }
        if let (Some(value), Some(limit)) = (self.find(key), self.find(other)) {
            let reason = format!(
                "expected {relation} {other}, which is {} ({})",
                quote_value(&limit.kind, str::to_owned),
                limit.origin().unwrap_or_default(),
            );
            self.problems.push(new_problem(key, value, str::to_owned, reason));
        }
    }

    /// Records that `key` must not be empty here. Does nothing if the key has a problem already, or
    /// if an unknown key may be a misspelling of it.
    pub(super) fn add_missing(&mut self, key: &str, expected: &str) {
        let is_reported =
            self.problems.iter().any(|other| other.key == key || other.value.is_none());
        if let Some(value) = self.find(key).filter(|_| !is_reported) {
            self.problems.push(new_problem(key, value, str::to_owned, expected.to_owned()));
        }
    }

    fn optional<T>(
        &mut self,
        key: &str,
        expected: &str,
        show: impl Fn(&str) -> String,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.read_redacted(key, expected, show, |kind| match kind {
            ValueKind::String(text) if text.is_empty() => Some(None),
            ValueKind::String(text) => parse(text).map(Some),
            _ => None,
        })
    }

    fn text<T: Default>(
        &mut self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        self.read_value(key, expected, |kind| match kind {
            ValueKind::String(text) => convert(text),
            _ => None,
        })
    }

    fn read_value<T: Default>(
        &mut self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&ValueKind) -> Option<T>,
    ) -> T {
        self.read_redacted(key, expected, str::to_owned, convert)
    }

    fn read_redacted<T: Default>(
        &mut self,
        key: &str,
        expected: &str,
        show: impl Fn(&str) -> String,
        convert: impl FnOnce(&ValueKind) -> Option<T>,
    ) -> T {
        let nothing = Value::default();
        let value = self.find(key).unwrap_or(&nothing);
        self.values.insert(key.to_owned(), SettingValue::new(&value.kind, &show));
        convert(&value.kind).unwrap_or_else(|| {
            self.problems.push(new_problem(key, value, show, expected.to_owned()));
            T::default()
        })
    }

    fn find(&self, key: &str) -> Option<&'a Value> {
        key.split('.').try_fold(self.root, |value, part| match &value.kind {
            ValueKind::Table(table) => table.get(part),
            _ => None,
        })
    }
}

fn new_problem(
    key: &str,
    value: &Value,
    show: impl Fn(&str) -> String,
    reason: String,
) -> ConfigProblem {
    ConfigProblem {
        key: key.to_owned(),
        value: Some(quote_value(&value.kind, show)),
        origin: value.origin().unwrap_or("nowhere set").to_owned(),
        reason,
    }
}

/// A value as a message quotes it. `show` converts the text first.
fn quote_value(kind: &ValueKind, show: impl Fn(&str) -> String) -> String {
    match kind {
        ValueKind::String(text) => {
            let text = show(text);
            let start: String = text.chars().take(MAX_QUOTED_CHARS).collect();
            let more = if start.len() < text.len() { "…" } else { "" };
            format!("{start:?}{more}")
        }
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        other => other.to_string(),
    }
}
