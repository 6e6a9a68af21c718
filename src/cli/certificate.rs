//! The server's certificate: read from its files, and read again when they change.
//!
//! They are compared whole: what renews certificates may replace files, links or directories.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::TlsFiles;
use crate::http::Tls;

/// The certificate and its key, as PEM.
type Pair = (Vec<u8>, Vec<u8>);

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
    pub(super) fn open(files: &TlsFiles) -> anyhow::Result<Self> {
        let seen = read(files)?;
        let tls = Tls::new(&seen.0, &seen.1).with_context(|| unusable(files))?;
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
                    let error: &(dyn std::error::Error + 'static) = error.as_ref();
                    tracing::error!(error, "the certificate stays as it was");
                }
            }
        }
    }

    /// Shows what is in the files now; `true` if that is something else. What cannot be used is told
    /// once, that there is nothing to read each time.
    fn reload(&mut self) -> anyhow::Result<bool> {
        let pair = read(&self.files)?;
        if pair == self.seen {
            return Ok(false);
        }
        self.seen = pair;
        self.tls.show(&self.seen.0, &self.seen.1).with_context(|| unusable(&self.files))?;
        Ok(true)
    }
}

fn read(files: &TlsFiles) -> anyhow::Result<Pair> {
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok((read(&files.cert)?, read(&files.key)?))
}

fn unusable(files: &TlsFiles) -> String {
    let TlsFiles { cert, key } = files;
    format!("server.tls_cert ({}) and server.tls_key ({})", cert.display(), key.display())
}
