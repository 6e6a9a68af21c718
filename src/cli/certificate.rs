//! The server's certificate: read from its files, and read again when they change.
//!
//! They are compared whole: what renews certificates may replace files, links or directories.

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

/// How often it is told that the certificate ends soon.
const REMIND_EVERY: Duration = Duration::from_secs(86_400);

/// The certificate and its key, as PEM.
type Pair = (Vec<u8>, Vec<u8>);

/// Why there is no certificate to show. At the start that is a mistake of the configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    /// One of the two files, by the key that names it.
    #[error("cannot read {}, the file of {key}", .path.display())]
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
    /// When the one that is shown ends, if that is known.
    ends: Option<DateTime<Utc>>,
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
        let ends = expiry::first(&seen.0);
        Ok(Self { files: files.clone(), seen, tls, ends })
    }

    /// What speaks TLS with it.
    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// What there is to say of it if it ends soon, or has.
    pub(super) fn remark(&self, now: DateTime<Utc>) -> Option<String> {
        expiry::remark(self.ends?, now)
    }

    /// Looks for changes, every so often and whenever SIGHUP comes, and warns of the end, at once
    /// and then every day; the metrics tell it all the time. Never ends.
    pub(super) async fn follow(mut self, every: Duration, clock: Clock, metrics: Arc<Metrics>) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let (mut looking, mut reminding) = (interval(every), interval(REMIND_EVERY));
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ends = self.ends.map_or(0, |ends| ends.timestamp());
            metrics.connections.certificate_ends.store(ends, Ordering::Relaxed);
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

    /// The lines that were logged.
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
    async fn the_end_is_told_every_day() {
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
        let following = certificate.follow(REMIND_EVERY, clock, Arc::default());
        let _ = tokio::time::timeout(REMIND_EVERY * 5 / 2, following).await;
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.matches("cert.pem ends on").count(), 3, "{log}");
    }
}
