//! Connections to PostgreSQL.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::Instant;

pub use super::database_servers::DatabaseServers;
pub use super::pool_limits::PoolLimits;

use super::no_server::NoServer;
use super::pooler_check;
use crate::repository::Error;
use crate::repository::Pool;

/// Connects once, and checks that Muster can use the database. A separate connection is used,
/// because a pool may report only that no connection became free.
///
/// # Errors
/// The error of the connection attempt, or [`Error::UnsupportedEncoding`].
pub async fn check_usable(pool: &Pool, timeout: Duration) -> Result<(), Error> {
    let check = async {
        let connecting = pool.connector().connect_without_log(Instant::now() + timeout);
        let mut connection = connecting.await?.into_inner();
        let connector = pool.connector();
        pooler_check::check(connector.servers(), connector.current_index()).await?;
        let encoding: String =
            sqlx::query_scalar("show server_encoding").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(encoding)
    };
    let checked = tokio::time::timeout(timeout, check).await;
    let encoding = match checked {
        Ok(Ok(encoding)) => encoding,
        Err(_) | Ok(Err(sqlx::Error::PoolTimedOut)) => return Err(Error::OutcomeUnknown(timeout)),
        Ok(Err(error)) => return Err(error.into()),
    };
    match encoding {
        encoding if encoding == "UTF8" => Ok(()),
        encoding => Err(Error::UnsupportedEncoding(encoding)),
    }
}

/// Checks that the server which is used is not a standby.
///
/// # Errors
/// [`Error::Unavailable`] if it is a standby, for which [`Error::is_read_only`] holds, or the error
/// of the database.
pub async fn check_primary(pool: &Pool) -> Result<(), Error> {
    let is_standby: bool = sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(pool).await?;
    if is_standby {
        return Err(Error::Unavailable(NoServer::standby(pool.connector().servers()).into()));
    }
    Ok(())
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
    remote_host(options).filter(|_| !requires_tls)
}

/// The host of the database, if a connection to it may cross a network and the certificate of the
/// server is not checked: another machine on the way could pretend to be the server.
#[must_use]
pub fn unverified_host(options: &PgConnectOptions) -> Option<&str> {
    let is_verified = match options.get_ssl_mode() {
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer | PgSslMode::Require => false,
        PgSslMode::VerifyCa | PgSslMode::VerifyFull => true,
    };
    remote_host(options).filter(|_| !is_verified)
}

/// The host of the database, if it is not this machine.
fn remote_host(options: &PgConnectOptions) -> Option<&str> {
    let host = options.get_host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_local = options.get_socket().is_some()
        || host.is_empty()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback());
    (!is_local).then_some(host)
}

/// A pool that connects when it is first used.
#[must_use]
pub fn connect(servers: impl Into<DatabaseServers>, limits: PoolLimits) -> Pool {
    let servers = servers.into().with_fixed_settings(limits.statement_timeout);
    Pool::new(servers, limits)
}

/// The same for servers behind a pooler. Work that needs a session of PostgreSQL uses the servers
/// `direct`.
#[must_use]
pub fn connect_pooled(
    servers: &DatabaseServers,
    direct: Option<DatabaseServers>,
    limits: PoolLimits,
) -> Pool {
    let servers = servers.with_fixed_settings(limits.statement_timeout);
    let direct = direct.map(|direct| connect(direct, limits));
    Pool::with_direct(servers, direct, limits)
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

    #[test]
    fn only_links_to_other_machines_with_an_unchecked_certificate_are_reported() {
        for (url, host) in [
            ("postgres://u@db.example/m", Some("db.example")),
            ("postgres://u@db.example/m?sslmode=prefer", Some("db.example")),
            ("postgres://u@db.example/m?sslmode=require", Some("db.example")),
            ("postgres://u@db.example/m?sslmode=verify-ca", None),
            ("postgres://u@db.example/m?sslmode=verify-full", None),
            ("postgres://u@localhost/m?sslmode=require", None),
            ("postgres:///m?host=/run/postgresql", None),
        ] {
            let options = PgConnectOptions::from_str(url).unwrap();
            assert_eq!(unverified_host(&options), host, "{url}");
        }
    }
}
