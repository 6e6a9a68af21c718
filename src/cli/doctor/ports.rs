//! Checks of the addresses and the certificate of a server.

use std::io;
use std::path::Path;

use super::super::certificate::Certificate;
use super::super::{health, server_record};
use super::report::{Check, with_causes};
use crate::clock::Clock;
use crate::config::{ServerConfig, TlsFiles};
use crate::http::{Listener, MetricsListener};
use crate::service::DatabaseIdentity;

/// The database of this configuration.
pub(super) enum UsedDatabase {
    /// An embedded one: each server on it has a record in the data directory.
    Embedded,
    /// An external one, with its identity if it answers.
    External(Option<DatabaseIdentity>),
}

/// A Muster that answers at an address.
struct FoundServer {
    /// The program, for people.
    program: String,
    /// Its fingerprint. Servers of earlier releases have none.
    fingerprint: Option<String>,
}

/// Checks that the address of the API is free, or used by a server of this installation.
pub(super) async fn api(server: &ServerConfig, data_dir: &Path, database: &UsedDatabase) -> Check {
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
        let found = FoundServer { program, fingerprint: health.fingerprint };
        return used_by(&found, NAME, bind, data_dir, database);
    }
    in_use(NAME, bind, &error)
}

/// Checks that the address of the metrics is free, or used by a server of this installation.
pub(super) async fn metrics(bind: &str, data_dir: &Path, database: &UsedDatabase) -> Check {
    const NAME: &str = "metrics";
    let error = match MetricsListener::bind(bind) {
        Ok(_) => return free(NAME, bind),
        Err(error) => error,
    };
    if error.kind() == io::ErrorKind::AddrInUse && health::serves_metrics(bind).await {
        let health = health::find_running(&health::metrics_url(bind)).await;
        let fingerprint = health.and_then(|health| health.fingerprint);
        let found = FoundServer { program: "a running Muster".to_owned(), fingerprint };
        return used_by(&found, NAME, bind, data_dir, database);
    }
    in_use(NAME, bind, &error)
}

/// The verdict on a port at which a Muster answers. Another installation, or a proxy before one,
/// keeps a server of this one from starting.
fn used_by(
    found: &FoundServer,
    check: &'static str,
    bind: &str,
    data_dir: &Path,
    database: &UsedDatabase,
) -> Check {
    let FoundServer { program, fingerprint } = found;
    let port = bind.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default();
    let is_own = server_record::is_served(data_dir, bind)
        || match database {
            UsedDatabase::External(Some(identity)) => {
                let own = identity.fingerprint(port);
                own.is_some() && own == *fingerprint
            }
            UsedDatabase::Embedded | UsedDatabase::External(None) => false,
        };
    if is_own {
        return Check::ok(check, format!("{bind} is used by {program}"));
    }
    let key = key(check);
    let found = format!("{bind} is used by {program} or a proxy before it");
    let owner = match database {
        UsedDatabase::External(Some(_)) => "this database".to_owned(),
        _ => data_dir.display().to_string(),
    };
    if matches!(database, UsedDatabase::External(None)) && !data_dir.is_dir() {
        let remedy =
            format!("set {key} to another address, unless it is the server of this database");
        return Check::warn(check, found, remedy);
    }
    let remedy =
        format!("set {key} to another address: the program there does not belong to {owner}");
    Check::fail(check, found, remedy)
}

/// The key of the address that a check examines.
fn key(check: &str) -> &'static str {
    if check == "port" { "server.bind" } else { "metrics.bind" }
}

fn free(check: &'static str, bind: &str) -> Check {
    Check::ok(check, format!("{bind} is free"))
}

fn in_use(check: &'static str, bind: &str, error: &io::Error) -> Check {
    let remedy = format!("stop the program that listens there, or set {}", key(check));
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
                with_causes(error),
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
