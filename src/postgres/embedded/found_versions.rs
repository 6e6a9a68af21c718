//! The unsuitable PostgreSQL programs of this machine, for messages.

use std::fmt;
use std::path::PathBuf;

use super::version::PostgresVersion;

/// Unsuitable PostgreSQL programs and their directories, for a message.
#[derive(Clone, Debug, Default)]
pub struct FoundVersions(pub Vec<(PostgresVersion, PathBuf)>);

impl FoundVersions {
    pub(super) fn only(&self) -> String {
        if self.0.is_empty() {
            return "found no PostgreSQL on this machine".to_owned();
        }
        format!("found only {}", self.list())
    }

    fn list(&self) -> String {
        let describe =
            |(version, dir): &(PostgresVersion, PathBuf)| format!("{version} in {}", dir.display());
        self.0.iter().map(describe).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for FoundVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " (found {})", self.list()) }
    }
}
