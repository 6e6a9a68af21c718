//! Checks of the addresses and the certificate of a server.

use std::io;

use super::super::certificate::Certificate;
use super::super::health;
use super::report::Check;
use crate::clock::Clock;
use crate::config::{ServerConfig, TlsFiles};
use crate::http::{Listener, MetricsListener};

/// Checks that the address of the API is free, or used by a running Muster.
pub(super) async fn api(server: &ServerConfig) -> Check {
    const NAME: &str = "port";
    let bind = &server.bind;
    let error = match Listener::bind(bind) {
        Ok(_) => return free(NAME, bind),
        Err(error) => error,
    };
    if error.kind() == io::ErrorKind::AddrInUse
        && let Some(health) = health::find_running(&health::url(server)).await
    {
        return Check::ok(NAME, format!("{bind} is used by a running Muster {}", health.version));
    }
    in_use(NAME, bind, &error, "server.bind")
}

/// Checks that the address of the metrics is free, or used by a running Muster.
pub(super) async fn metrics(bind: &str) -> Check {
    const NAME: &str = "metrics";
    let error = match MetricsListener::bind(bind) {
        Ok(_) => return free(NAME, bind),
        Err(error) => error,
    };
    if error.kind() == io::ErrorKind::AddrInUse && health::serves_metrics(bind).await {
        return Check::ok(NAME, format!("{bind} is used by a running Muster"));
    }
    in_use(NAME, bind, &error, "metrics.bind")
}

fn free(check: &'static str, bind: &str) -> Check {
    Check::ok(check, format!("{bind} is free"))
}

fn in_use(check: &'static str, bind: &str, error: &io::Error, key: &str) -> Check {
    let remedy = format!("stop the program that listens there, or set {key}");
    Check::fail(check, format!("{bind}: {error}"), remedy)
}

/// Checks that the certificate can be used and does not expire soon.
pub(super) fn certificate(files: &TlsFiles, clock: &Clock) -> Check {
    const NAME: &str = "tls";
    let cert = files.cert.display();
    let certificate = match Certificate::open(files) {
        Ok(certificate) => certificate,
        Err(error) => {
            return Check::fail(
                NAME,
                format!("{:#}", anyhow::Error::from(error)),
                "set server.tls_cert and server.tls_key to a certificate and its key, both PEM and \
                 readable by this user",
            );
        }
    };
    if let Some(warning) = certificate.expiry_warning(clock.now()) {
        let remedy =
            "renew it: a running server loads the new one by itself, or at once after SIGHUP";
        return Check::warn(NAME, format!("{cert} {warning}"), remedy);
    }
    Check::ok(NAME, format!("{cert} and its key can be used"))
}
