//! The server's certificate, which is read from its files and read again when they change.
//!
//! The surprise: the whole content is compared, not the modification time, because tools that renew
//! certificates replace files, links or directories.

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

/// The interval between two warnings about a certificate that expires soon.
const REMINDER_INTERVAL: Duration = Duration::from_secs(86_400);

/// The certificate and its key, as PEM.
type Pair = (Vec<u8>, Vec<u8>);

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
    seen: Pair,
    tls: Tls,
    /// The end of the certificate in use, if it is known.
    ends: Option<DateTime<Utc>>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// The files cannot be read, or do not hold a certificate and its key.
    pub(super) fn open(files: &TlsFiles) -> Result<Self, CertificateError> {
        let seen = read(files)?;
        let tls = Tls::new(&seen.0, &seen.1)
            .map_err(|error| CertificateError::Unusable(files.clone(), error))?;
        let ends = expiry::first(&seen.0);
        Ok(Self { files: files.clone(), seen, tls, ends })
    }

    /// The TLS configuration with this certificate.
    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// A warning if the certificate has expired or expires soon.
    pub(super) fn remark(&self, now: DateTime<Utc>) -> Option<String> {
        expiry::remark(self.ends?, now)
    }

    /// Looks for changes at every interval and at every SIGHUP, and warns of the end, at once and
    /// then every day. The metrics always show the end. This future never completes.
    pub(super) async fn follow(mut self, every: Duration, clock: Clock, metrics: Arc<Metrics>) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let (mut looking, mut reminding) = (interval(every), interval(REMINDER_INTERVAL));
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ends = self.ends.map_or(0, |ends| ends.timestamp());
            metrics.connections.certificate_not_after.store(ends, Ordering::Relaxed);
            tokio::select! {
                _ = looking.tick() => {}
                Some(_) = async { hangup.as_mut()?.recv().await } => {}
                _ = reminding.tick() => {
                    self.remind(&clock);
                    continue;
                }
            }
            match self.reload() {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!("the certificate has changed");
                    reminding.reset_immediately();
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(
                        error,
                        "the changed certificate cannot be used; the previous one stays in use"
                    );
                }
            }
        }
    }

    fn remind(&self, clock: &Clock) {
        if let Some(remark) = self.remark(clock.now()) {
            let cert = self.files.cert.display();
            tracing::warn!("the certificate in {cert} {remark}: renew it");
        }
    }

    /// Uses the present content of the files, and says whether it has changed. An unusable content
    /// is reported once, an unreadable file each time.
    fn reload(&mut self) -> Result<bool, CertificateError> {
        let pair = read(&self.files)?;
        if pair == self.seen {
            return Ok(false);
        }
        self.seen = pair;
        self.tls
            .replace(&self.seen.0, &self.seen.1)
            .map_err(|error| CertificateError::Unusable(self.files.clone(), error))?;
        self.ends = expiry::first(&self.seen.0);
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use chrono::TimeDelta;

    use super::*;

    /// The captured log.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
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
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();

        let certificate = Certificate::open(&files).unwrap();
        let clock = Clock::manual(certificate.ends.unwrap() - TimeDelta::days(3));
        let log = Log::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(lines);
        let following = certificate.follow(REMINDER_INTERVAL, clock, Arc::default());
        let _ = tokio::time::timeout(REMINDER_INTERVAL * 5 / 2, following).await;
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.matches("cert.pem ends on").count(), 3, "{log}");
    }
}
