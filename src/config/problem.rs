//! The messages for the operator if the configuration is refused.

use std::fmt;
use std::path::PathBuf;

/// The reason why there are no [`Settings`](super::Settings).
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing, unreadable or not UTF-8.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// As it was named.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("the configuration file {origin}, is not valid TOML: {message}")]
    Syntax {
        /// The file's path, with line and column.
        origin: String,
        /// The message of the parser. It holds no text of the file, which may be a password.
        message: String,
    },
    /// The layers could not be laid over each other.
    #[error("cannot combine the configuration's layers")]
    Layers(#[source] ::config::ConfigError),
    /// All that is wrong with keys and values; never empty.
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
    /// Such as `server.bind`; of an unknown environment variable, its name.
    pub key: String,
    /// As set, quoted and shortened, without the database's password. `None` for unknown keys,
    /// because the value may be a secret.
    pub value: Option<String>,
    /// A path with a line, the name of an environment variable, or the defaults.
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
