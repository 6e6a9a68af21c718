//! The certificate of the server. It is read from its files, and read again when they change.
//!
//! The surprise: the whole content is compared, not the modification time, because renewal tools
//! replace files, links or directories.

mod expiry;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Clock;
use crate::config::TlsFiles;
use crate::http::{Tls, TlsError};
use crate::metrics::Metrics;
use crate::telemetry::cause_chain;

/// The interval between two warnings about a certificate that expires soon.
const REMINDER_INTERVAL: Duration = Duration::from_secs(86_400);

/// The certificate and its key, as PEM.
type CertAndKey = (Vec<u8>, Vec<u8>);

/// The reason why a certificate cannot be used. At the start it counts as a wrong configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    /// One of the two files cannot be read.
    #[error("cannot read {}, the file of {key}", .path.display())]
    Read { key: &'static str, path: PathBuf, source: io::Error },
    /// The files do not hold a certificate and its key.
    #[error("server.tls_cert ({}) and server.tls_key ({})", .0.cert.display(), .0.key.display())]
    Unusable(TlsFiles, #[source] TlsError),
}

/// The certificate in use, and the files that it comes from.
pub(super) struct Certificate {
    files: TlsFiles,
    /// The last content of the files, usable or not.
    loaded: CertAndKey,
    tls: Tls,
    /// The expiry time of the certificate in use; `None` if unknown.
    not_after: Option<DateTime<Utc>>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// The files cannot be read, or do not hold a certificate and its key.
    pub(super) fn open(files: &TlsFiles) -> Result<Self, CertificateError> {
        let loaded = read(files)?;
        let tls = Tls::new(&loaded.0, &loaded.1)
            .map_err(|error| CertificateError::Unusable(files.clone(), error))?;
        let not_after = expiry::first_expiry(&loaded.0);
        Ok(Self { files: files.clone(), loaded, tls, not_after })
    }

    /// The TLS configuration with this certificate.
    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// A warning if the certificate has expired or expires soon.
    pub(super) fn expiry_warning(&self, now: DateTime<Utc>) -> Option<String> {
        expiry::expiry_warning(self.not_after?, now)
    }

    /// Checks for changes at every interval and at every SIGHUP. Warns of the expiry at once and
    /// then every day. The metrics always show the expiry time. This future never completes.
    pub(super) async fn watch(
        mut self,
        interval_between: Duration,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let (mut reload_timer, mut reminder_timer) =
            (interval(interval_between), interval(REMINDER_INTERVAL));
        reload_timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let not_after = self.not_after.map_or(0, |not_after| not_after.timestamp());
            metrics.connections.certificate_not_after.store(not_after, Ordering::Relaxed);
            tokio::select! {
                _ = reload_timer.tick() => {}
                Some(_) = async { hangup.as_mut()?.recv().await } => {}
                _ = reminder_timer.tick() => {
                    self.remind(&clock);
                    continue;
                }
            }
            match self.reload() {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!("the certificate has changed");
                    reminder_timer.reset_immediately();
                }
                Err(error) => {
                    let error = cause_chain(&error);
                    tracing::error!(
                        %error,
                        "the changed certificate cannot be used; the previous one stays in use"
                    );
                }
            }
        }
    }

    fn remind(&self, clock: &Clock) {
        if let Some(warning) = self.expiry_warning(clock.now()) {
            let cert = self.files.cert.display();
            tracing::warn!("the certificate in {cert} {warning}: renew it");
        }
    }

    /// Loads the current content of the files, and returns whether it has changed. An unusable
    /// content is logged once, an unreadable file each time.
    fn reload(&mut self) -> Result<bool, CertificateError> {
        let pair = read(&self.files)?;
        if pair == self.loaded {
            return Ok(false);
        }
        self.loaded = pair;
        self.tls
            .replace(&self.loaded.0, &self.loaded.1)
            .map_err(|error| CertificateError::Unusable(self.files.clone(), error))?;
        self.not_after = expiry::first_expiry(&self.loaded.0);
        Ok(true)
    }
}

fn read(files: &TlsFiles) -> Result<CertAndKey, CertificateError> {
    let read = |key, path: &PathBuf| {
        std::fs::read(path).map_err(|source| CertificateError::Read {
            key,
            path: path.clone(),
            source,
        })
    };
    Ok((read("server.tls_cert", &files.cert)?, read("server.tls_key", &files.key)?))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use chrono::TimeDelta;

    use super::*;

    /// The captured log.
    #[derive(Clone, Default)]
    struct LogBuffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for LogBuffer {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_expiring_certificate_is_reported_every_day() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let files = TlsFiles { cert: path("cert.pem"), key: path("key.pem") };
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&files.cert, certified.cert.pem()).unwrap();
        std::fs::write(&files.key, certified.signing_key.serialize_pem()).unwrap();

        let certificate = Certificate::open(&files).unwrap();
        let clock = Clock::manual(certificate.not_after.unwrap() - TimeDelta::days(3));
        let log = LogBuffer::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(lines);
        let watching = certificate.watch(REMINDER_INTERVAL, clock, Arc::default());
        let _ = tokio::time::timeout(REMINDER_INTERVAL * 5 / 2, watching).await;
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.matches("cert.pem ends on").count(), 3, "{log}");
    }
}
