//! The layers of the configuration. Each is a flat map from keys such as `server.bind` to a value
//! and its origin. Keys that the defaults do not have are refused here.

use std::collections::BTreeMap;
use std::path::Path;

use ::config::{Map, Source, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::{
    ConfigError, ConfigProblem, EffectiveSetting, SettingSource, SettingValue, suggestion,
};

/// The documented defaults, as text: `config/default.toml`.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

const PREFIX: &str = "MUSTER__";
/// The suffix of a variable that names a file with the value.
const FILE_SUFFIX: &str = "_FILE";

/// One layer: values by full key.
#[derive(Clone, Debug)]
pub(super) struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ::config::ConfigError> {
        Ok(self.0.clone())
    }
}

impl Layer {
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn has_section(&self, name: &str) -> bool {
        self.keys().any(|key| key.split_once('.').is_some_and(|(section, _)| section == name))
    }

    /// The message for the unknown key `key`.
    fn unknown_key_reason(&self, key: &str, as_written: impl Fn(&str) -> String) -> String {
        if self.has_section(key) {
            return "this is a section, not a key".to_owned();
        }
        match suggestion::find(key, || self.keys()) {
            Some(known) => format!("no such key; did you mean `{}`?", as_written(known)),
            None => "no such key; `muster config` lists all there are".to_owned(),
        }
    }
}

/// The compiled-in layer. It defines all keys and their types.
pub(super) fn defaults() -> Result<Layer, ConfigError> {
    let origin = "the default".to_owned();
    let entries = parse(DEFAULTS, "config/default.toml", |_| false)?;
    let unplaced = |(key, value): (_, Value)| (key, Value::new(Some(&origin), value.kind));
    Ok(Layer(entries.into_iter().map(unplaced).collect()))
}

/// The settings in force, in the order of the defaults. `values` has no secrets.
pub(super) fn effective(
    mut values: BTreeMap<String, SettingValue>,
    defaults: &Layer,
    file: Option<&Layer>,
    env: &Layer,
) -> Result<Vec<EffectiveSetting>, ConfigError> {
    let layers = [
        (SettingSource::Environment, Some(env)),
        (SettingSource::File, file),
        (SettingSource::Default, Some(defaults)),
    ];
    let find = |(key, _): (String, Value)| {
        let (source, value) = layers.iter().find_map(|(source, layer)| {
            layer.and_then(|layer| layer.0.get(&key)).map(|value| (*source, value))
        })?;
        let origin = value.origin().unwrap_or_default().to_owned();
        Some(EffectiveSetting { value: values.remove(&key)?, key, source, origin })
    };
    let documented = parse(DEFAULTS, "config/default.toml", |_| false)?;
    Ok(documented.into_iter().filter_map(find).collect())
}

/// The operator's file.
pub(super) fn file(
    path: &Path,
    defaults: &Layer,
    problems: &mut Vec<ConfigProblem>,
) -> Result<Layer, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let is_key = |key: &str| defaults.0.contains_key(key);
    let mut layer = Map::new();
    for (key, value) in parse(&text, &path.display().to_string(), is_key)? {
        let is_table = matches!(value.kind, ValueKind::Table(_));
        if is_key(&key) && !is_table {
            layer.insert(key, value);
        } else if !(is_table && defaults.has_section(&key)) {
            let origin = value.origin().unwrap_or_default().to_owned();
            let reason = if is_key(&key) {
                "expected a value, not a table".to_owned()
            } else {
                defaults.unknown_key_reason(&key, str::to_owned)
            };
            problems.push(ConfigProblem { key, value: None, origin, reason });
        }
    }
    Ok(Layer(layer))
}

/// The layer of the environment. A value is text; it is parsed if the default is a number, a
/// boolean or a list. Containers pass secrets in files, so the variable may name a file with the
/// value instead.
pub(super) fn environment(
    env: impl Iterator<Item = (String, String)>,
    defaults: &Layer,
    problems: &mut Vec<ConfigProblem>,
) -> Layer {
    let keys: BTreeMap<String, &str> =
        defaults.keys().map(|key| (variable_name(key), key)).collect();
    // A single underscore instead of two must not pass silently: the service would use another
    // database than the operator named.
    let misspellings: BTreeMap<String, &str> =
        defaults.keys().map(|key| (variable_name(key).replace("__", "_"), key)).collect();

    let mut layer = Map::new();
    // Sorted by name, so that messages have a stable order.
    let env: BTreeMap<_, _> = env.collect();
    for (name, text) in env.clone() {
        let mut add_problem = |reason: String| {
            problems.push(ConfigProblem {
                key: name.clone(),
                value: None,
                origin: "environment variable".to_owned(),
                reason,
            });
        };
        if let Some((key, is_file)) = find_key(&name, &keys) {
            if text.contains(char::REPLACEMENT_CHARACTER) {
                add_problem("expected UTF-8 text".to_owned());
                continue;
            }
            let mut origin = format!("environment variable {name}");
            let text = if is_file {
                if env.contains_key(&variable_name(key)) {
                    add_problem(format!(
                        "expected either this or {}, not both",
                        variable_name(key)
                    ));
                    continue;
                }
                origin = format!("{text}, named by {origin}");
                match secret_file(Path::new(&text)) {
                    Ok(content) => content,
                    Err(error) => {
                        add_problem(format!("cannot read {text}: {error}"));
                        continue;
                    }
                }
            } else {
                text
            };
            let kind = match defaults.0.get(key).map(|value| &value.kind) {
                Some(ValueKind::I64(_)) => text.trim().parse().map(ValueKind::I64).ok(),
                Some(ValueKind::Boolean(_)) => text.trim().parse().map(ValueKind::Boolean).ok(),
                Some(ValueKind::Array(_)) => Some(list(&text)),
                _ => None,
            };
            let value = Value::new(Some(&origin), kind.unwrap_or(ValueKind::String(text)));
            layer.insert(key.to_owned(), value);
        } else if let Some(rest) = without_prefix(&name) {
            let key = rest.to_lowercase().replace("__", ".");
            add_problem(defaults.unknown_key_reason(&key, variable_name));
        } else if let Some((key, is_file)) =
            find_key(&name.to_uppercase().replace("__", "_"), &misspellings)
        {
            let suggestion = variable_name(key) + if is_file { FILE_SUFFIX } else { "" };
            add_problem(format!("no such key; did you mean `{suggestion}`?"));
        }
    }
    Layer(layer)
}

/// The key that a variable sets, and whether the variable names a file with the value. An exact key
/// has precedence: `MUSTER__SECRETS__MASTER_KEY_FILE` is `secrets.master_key_file`.
fn find_key<'a>(name: &str, keys: &BTreeMap<String, &'a str>) -> Option<(&'a str, bool)> {
    let itself = keys.get(name).map(|key| (*key, false));
    itself.or_else(|| keys.get(name.strip_suffix(FILE_SUFFIX)?).map(|key| (*key, true)))
}

/// The content of a file, without the newline that editors add at its end.
fn secret_file(path: &Path) -> std::io::Result<String> {
    let mut text = std::fs::read_to_string(path)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// A list from the environment, separated by commas.
fn list(text: &str) -> ValueKind {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let kind = |item: &str| match item.parse() {
        Ok(number) => ValueKind::I64(number),
        Err(_) => ValueKind::String(item.to_owned()),
    };
    ValueKind::Array(items.map(|item| Value::new(None, kind(item))).collect())
}

/// The name of the environment variable that sets `key`.
pub(super) fn variable_name(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

fn without_prefix(name: &str) -> Option<&str> {
    let (start, rest) = name.split_at_checked(PREFIX.len())?;
    start.eq_ignore_ascii_case(PREFIX).then_some(rest)
}

/// The keys and values of a TOML text, flattened, in the order of the text. A table is flattened
/// unless `is_key` accepts its name.
fn parse(
    text: &str,
    name: &str,
    is_key: impl Fn(&str) -> bool,
) -> Result<Vec<(String, Value)>, ConfigError> {
    let root = DeTable::parse(text).map_err(|error| {
        // The parser's own message quotes the line, which may hold a password.
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        ConfigError::Syntax {
            origin: format!("{}, column {column}", describe_position(text, name, at)),
            message: error.message().to_owned(),
        }
    })?;

    let mut entries = Vec::new();
    let mut tables = vec![(String::new(), root.into_inner())];
    while let Some((prefix, table)) = tables.pop() {
        for (part, value) in table {
            let at = part.span().start;
            let key = format!("{prefix}{}", quoted(part.get_ref()));
            match value.into_inner() {
                DeValue::Table(inner) if !inner.is_empty() && !is_key(&key) => {
                    tables.push((format!("{key}."), inner));
                }
                value => {
                    entries.push((
                        at,
                        key,
                        Value::new(Some(&describe_position(text, name, at)), kind(&value)),
                    ));
                }
            }
        }
    }
    entries.sort_by_key(|(at, ..)| *at);
    Ok(entries.into_iter().map(|(_, key, value)| (key, value)).collect())
}

fn describe_position(text: &str, name: &str, at: usize) -> String {
    let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    format!("{name}, line {line}")
}

/// A part of a key, quoted if it could be mistaken for several parts.
fn quoted(part: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !part.is_empty() && part.chars().all(bare) { part.to_owned() } else { format!("{part:?}") }
}

fn kind(value: &DeValue<'_>) -> ValueKind {
    match value {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        // A number that needs more than 64 bits stays text, which `Reader::number` refuses.
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map_or_else(|_| ValueKind::String(digits.as_str().to_owned()), ValueKind::I64),
        DeValue::Float(digits) => digits.as_str().parse().map_or(ValueKind::Nil, ValueKind::Float),
        DeValue::Boolean(value) => ValueKind::Boolean(*value),
        DeValue::Datetime(time) => ValueKind::String(time.to_string()),
        DeValue::Array(items) => {
            let item = |item: &toml::Spanned<DeValue<'_>>| Value::new(None, kind(item.get_ref()));
            ValueKind::Array(items.iter().map(item).collect())
        }
        DeValue::Table(_) => ValueKind::Table(Map::new()),
    }
}
