//! Connections to PostgreSQL.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _};

pub use super::pool_limits::PoolLimits;

use super::Error;
use crate::repository::Pool;

/// Connects once, and checks that Muster can use the database. A separate connection is used,
/// because a pool may report only that no connection became free.
///
/// # Errors
/// The error of the connection attempt, or [`Error::UnsupportedEncoding`].
pub async fn check_usable(options: &PgConnectOptions, timeout: Duration) -> Result<(), Error> {
    let check = async {
        let mut connection = PgConnection::connect_with(options).await?;
        let encoding: String =
            sqlx::query_scalar("show server_encoding").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(encoding)
    };
    let checked = tokio::time::timeout(timeout, check).await;
    match checked.map_err(|_| Error::OutcomeUnknown(timeout))?? {
        encoding if encoding == "UTF8" => Ok(()),
        encoding => Err(Error::UnsupportedEncoding(encoding)),
    }
}

/// A file for TLS that the options of a connection name, and that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{key} names {path}, which cannot be read")]
pub struct UnreadableTlsFile {
    /// The parameter of the URL.
    pub key: String,
    /// The path of the file.
    pub path: String,
    /// The reason.
    pub source: io::Error,
}

/// Checks that the files for TLS can be read. PostgreSQL's client would not name them.
///
/// # Errors
/// The first file that cannot be read.
pub fn check_tls_files(options: &PgConnectOptions) -> Result<(), UnreadableTlsFile> {
    if matches!(options.get_ssl_mode(), PgSslMode::Disable) {
        return Ok(());
    }
    for (key, value) in options.to_url_lossy().query_pairs() {
        if !["sslrootcert", "sslcert", "sslkey"].contains(&&*key) {
            continue;
        }
        // The options write this prefix before a path.
        if let Some(path) = value.strip_prefix("file: ") {
            File::open(path).map_err(|source| UnreadableTlsFile {
                key: key.to_string(),
                path: path.to_owned(),
                source,
            })?;
        }
    }
    Ok(())
}

/// The host of the database, if a connection to it may cross a network without TLS: the host is not
/// this machine, and TLS is not required. The library uses TLS then only if the server offers it, so
/// an attacker on the way can prevent it.
#[must_use]
pub fn plaintext_host(options: &PgConnectOptions) -> Option<&str> {
    let requires_tls = match options.get_ssl_mode() {
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => false,
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => true,
    };
    let host = options.get_host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_local = options.get_socket().is_some()
        || host.is_empty()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback());
    (!requires_tls && !is_local).then_some(host)
}

/// A pool that connects when it is first used.
#[must_use]
pub fn connect(options: PgConnectOptions, limits: PoolLimits) -> Pool {
    let statement_timeout = limits.statement_timeout.as_millis().to_string();
    let options = options.application_name("muster").options([
        ("statement_timeout", statement_timeout.as_str()),
        // A client that vanishes during a transaction must not keep its sessions locked.
        ("idle_in_transaction_session_timeout", statement_timeout.as_str()),
        // PostgreSQL detects a lost client after two minutes instead of two hours.
        ("tcp_keepalives_idle", "60"),
        ("tcp_keepalives_interval", "20"),
        ("tcp_keepalives_count", "3"),
        // Statements here end within milliseconds, but compiling one takes half a second. The
        // planner would compile them, because it does not know how few rows a limit leaves.
        ("jit", "off"),
    ]);
    Pool::new(options, limits)
}

/// A pool that opens no connection, for tests of its users.
#[cfg(test)]
pub(crate) fn unused(limits: PoolLimits) -> Pool {
    connect(PgConnectOptions::new_without_pgpass(), limits)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    #[test]
    fn only_links_that_leave_the_machine_without_tls_are_reported() {
        for (url, host) in [
            ("postgres://u@db.example/m?sslmode=disable", Some("db.example")),
            ("postgres://u@db.example/m?sslmode=allow", Some("db.example")),
            ("postgres://u@db.example/m?sslmode=prefer", Some("db.example")),
            ("postgres://u@10.0.0.7/m?sslmode=disable", Some("10.0.0.7")),
            ("postgres://u@0.0.0.0/m?sslmode=disable", Some("0.0.0.0")),
            ("postgres://u@localhost.example/m?sslmode=disable", Some("localhost.example")),
            ("postgres://u@db.example/m?sslmode=require", None),
            ("postgres://u@db.example/m?sslmode=verify-ca", None),
            ("postgres://u@db.example/m?sslmode=verify-full", None),
            ("postgres://u@localhost/m?sslmode=disable", None),
            ("postgres://u@127.8.0.1/m?sslmode=disable", None),
            ("postgres://u@[::1]/m?sslmode=disable", None),
            ("postgres:///m?host=/run/postgresql&sslmode=disable", None),
        ] {
            let options = PgConnectOptions::from_str(url).unwrap();
            assert_eq!(plaintext_host(&options), host, "{url}");
        }
    }
}
