//! The messages about an invalid configuration.

use std::fmt;
use std::path::PathBuf;

/// The reason why [`Settings`](super::Settings) cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing, unreadable or not UTF-8.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The path as the operator gave it.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {origin}, is not valid TOML: {message}")]
    Syntax {
        /// The file's path, with line and column.
        origin: String,
        /// The message of the parser. It quotes no text of the file, which may be a password.
        message: String,
    },
    /// The layers cannot be merged.
    #[error("cannot combine the configuration's layers")]
    Layers(#[source] ::config::ConfigError),
    /// All mistakes in keys and values; never empty.
    #[error("{}", list(.0))]
    Invalid(Vec<ConfigProblem>),
}

fn list(problems: &[ConfigProblem]) -> String {
    let mut text = match problems.len() {
        1 => "the configuration has a mistake:".to_owned(),
        many => format!("the configuration has {many} mistakes:"),
    };
    for problem in problems {
        text.push_str("\n  ");
        text.push_str(&problem.to_string());
    }
    text
}

/// One mistake. It shows as `key = value (origin): expected form`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// A key such as `server.bind`, or the name of an unknown environment variable.
    pub key: String,
    /// The value, quoted and shortened, without the password of the database. `None` for unknown
    /// keys, because the value may be a secret.
    pub value: Option<String>,
    /// A path with a line number, the name of an environment variable, or the defaults.
    pub origin: String,
    /// The expected form.
    pub reason: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, origin, reason } = self;
        match value {
            Some(value) => write!(f, "{key} = {value} ({origin}): {reason}"),
            None => write!(f, "{key} ({origin}): {reason}"),
        }
    }
}
