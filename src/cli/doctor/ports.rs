//! Checks of the addresses and the certificate of a server.

use std::io;
use std::path::Path;

use super::super::certificate::Certificate;
use super::super::{health, server_record};
use super::report::Check;
use crate::clock::Clock;
use crate::config::{ServerConfig, TlsFiles};
use crate::http::{Listener, MetricsListener};

/// Checks that the address of the API is free, or used by a server of this installation.
pub(super) async fn api(server: &ServerConfig, data_dir: &Path) -> Check {
    const NAME: &str = "port";
    let bind = &server.bind;
    let error = match Listener::bind(bind) {
        Ok(_) => return free(NAME, bind),
        Err(error) => error,
    };
    if error.kind() == io::ErrorKind::AddrInUse
        && let Some(health) = health::find_running(&health::url(server)).await
    {
        let program = format!("a running Muster {}", health.version);
        return used_by(&program, NAME, bind, data_dir, "server.bind");
    }
    in_use(NAME, bind, &error, "server.bind")
}

/// Checks that the address of the metrics is free, or used by a server of this installation.
pub(super) async fn metrics(bind: &str, data_dir: &Path) -> Check {
    const NAME: &str = "metrics";
    let error = match MetricsListener::bind(bind) {
        Ok(_) => return free(NAME, bind),
        Err(error) => error,
    };
    if error.kind() == io::ErrorKind::AddrInUse && health::serves_metrics(bind).await {
        return used_by("a running Muster", NAME, bind, data_dir, "metrics.bind");
    }
    in_use(NAME, bind, &error, "metrics.bind")
}

/// The verdict on a port at which a Muster answers. Another installation, or a proxy before one,
/// keeps a server of this one from starting. Without a data directory nothing distinguishes them.
fn used_by(
    program: &str,
    check: &'static str,
    bind: &str,
    data_dir: &Path,
    key: &'static str,
) -> Check {
    if server_record::is_served(data_dir, bind) {
        return Check::ok(check, format!("{bind} is used by {program}"));
    }
    let found = format!("{bind} is used by {program} or a proxy before it");
    if data_dir.is_dir() {
        let remedy = format!(
            "set {key} to another address: the program there does not belong to {}",
            data_dir.display()
        );
        return Check::fail(check, found, remedy);
    }
    let remedy = format!("set {key} to another address, unless it is the server of this database");
    Check::warn(check, found, remedy)
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
