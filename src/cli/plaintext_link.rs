//! The warnings of a link to a database that may cross a network: without TLS, or with a
//! certificate that is not checked.

use super::external_database::{plaintext_host, unverified_host};
use crate::config::DatabaseUrl;

/// A link without TLS.
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

    /// The finding. `key` names the URL.
    pub(super) fn finding(&self, key: &str) -> String {
        format!("{key} permits connections to {} without TLS", self.host)
    }
}

/// The finding if the link to the database of this URL has TLS, but the certificate of the server is
/// not checked. `key` names the URL.
pub(super) fn unverified(url: &DatabaseUrl, key: &str) -> Option<String> {
    let host = unverified_host(url).filter(|_| plaintext_host(url).is_none())?;
    Some(format!("{key} does not check the certificate of {host}"))
}
