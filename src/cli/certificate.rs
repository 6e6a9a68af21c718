//! The server's certificate: read from its files, and read again when they change.
//!
//! They are compared whole: what renews certificates may replace files, links or directories.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::TlsFiles;
use crate::http::{Tls, TlsError};

/// The certificate and its key, as PEM.
type Pair = (Vec<u8>, Vec<u8>);

/// Why there is no certificate to show. At the start that is a mistake of the configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    /// One of the two files, by the key that names it.
    #[error("cannot read {}, which {key} names", .path.display())]
    Read { key: &'static str, path: PathBuf, source: io::Error },
    /// What is in them.
    #[error("server.tls_cert ({}) and server.tls_key ({})", .0.cert.display(), .0.key.display())]
    Unusable(TlsFiles, #[source] TlsError),
}

/// The certificate that is shown, and the files that it comes from.
pub(super) struct Certificate {
    files: TlsFiles,
    /// What was last in them, whether it could be used or not.
    seen: Pair,
    tls: Tls,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be read, or what is in them cannot be used.
    pub(super) fn open(files: &TlsFiles) -> Result<Self, CertificateError> {
        let seen = read(files)?;
        let tls = Tls::new(&seen.0, &seen.1)
            .map_err(|error| CertificateError::Unusable(files.clone(), error))?;
        Ok(Self { files: files.clone(), seen, tls })
    }

    /// What speaks TLS with it.
    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Looks for changes, every so often and whenever SIGHUP comes. Never ends.
    pub(super) async fn follow(mut self, every: Duration) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut interval = interval(every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                Some(_) = async { hangup.as_mut()?.recv().await } => {}
            }
            match self.reload() {
                Ok(false) => {}
                Ok(true) => tracing::info!("the certificate has changed"),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the certificate stays as it was");
                }
            }
        }
    }

    /// Shows what is in the files now; `true` if that is something else. What cannot be used is told
    /// once, that there is nothing to read each time.
    fn reload(&mut self) -> Result<bool, CertificateError> {
        let pair = read(&self.files)?;
        if pair == self.seen {
            return Ok(false);
        }
        self.seen = pair;
        self.tls
            .show(&self.seen.0, &self.seen.1)
            .map_err(|error| CertificateError::Unusable(self.files.clone(), error))?;
        Ok(true)
    }
}

fn read(files: &TlsFiles) -> Result<Pair, CertificateError> {
    let read = |key, path: &PathBuf| {
        std::fs::read(path).map_err(|source| CertificateError::Read {
            key,
            path: path.clone(),
            source,
        })
    };
    Ok((read("server.tls_cert", &files.cert)?, read("server.tls_key", &files.key)?))
}
