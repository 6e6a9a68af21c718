//! The warning of a link to a database that may cross a network without TLS.

use super::database::plaintext_host;
use crate::config::DatabaseUrl;

/// Such a link.
pub(super) struct PlaintextLink {
    host: String,
}

impl PlaintextLink {
    pub(super) const REMEDY: &str = "add `?sslmode=verify-full` to the URL, and `sslrootcert` for a \
        private authority: others in the network may otherwise read or change the data";

    /// The link to the database of this URL, if it may be without TLS.
    pub(super) fn find(url: &DatabaseUrl) -> Option<Self> {
        Some(Self { host: plaintext_host(url)? })
    }

    /// What is wrong. `key` names the URL.
    pub(super) fn finding(&self, key: &str) -> String {
        format!("{key} permits connections to {} without TLS", self.host)
    }
}
