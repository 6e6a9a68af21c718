//! The settings in force, for people: each with its value, without secrets, and its origin.

use ::config::ValueKind;

/// A setting in force.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveSetting {
    /// The key, such as `server.bind`.
    pub key: String,
    /// The value. Secrets are masked.
    pub value: SettingValue,
    /// The layer that sets the value.
    pub source: SettingSource,
    /// Where in this layer: a path with a line number, or the name of an environment variable.
    pub origin: String,
}

/// A layer of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingSource {
    /// The documented default.
    Default,
    /// The configuration file.
    File,
    /// The environment.
    Environment,
}

impl SettingSource {
    /// The name in the output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
        }
    }
}

/// The value of a setting, as it can be written in a configuration file.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingValue {
    /// Text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// A number with a fraction.
    Fraction(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A list.
    List(Vec<SettingValue>),
}

impl SettingValue {
    /// The value of a key. `show` masks secrets in texts.
    pub(super) fn new(kind: &ValueKind, show: &impl Fn(&str) -> String) -> Self {
        match kind {
            ValueKind::String(text) => Self::Text(show(text)),
            ValueKind::I64(number) => Self::Whole(*number),
            ValueKind::Float(number) => Self::Fraction(*number),
            ValueKind::Boolean(value) => Self::Boolean(*value),
            ValueKind::Array(items) => {
                Self::List(items.iter().map(|item| Self::new(&item.kind, show)).collect())
            }
            // No key has another type.
            other => Self::Text(show(&other.to_string())),
        }
    }
}
