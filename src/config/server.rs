//! `[server]`: connections and requests of clients.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::address::is_loopback;
use super::duration::{DAY, HOUR, MIN_TIMEOUT, MINUTE, SECOND};
use super::read::Reader;

/// `[server]`: connections and requests of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// `HOST:PORT`. The host is an IPv4 address, an IPv6 address in brackets, or a name. Port 0
    /// selects a free port.
    pub bind: String,
    /// The number of threads that serve requests; 0 = one for each core.
    pub workers: usize,
    /// How long a server that must stop answers everything, and asks clients to go elsewhere.
    pub drain_timeout: Duration,
    /// The time for running requests to finish when the server stops.
    pub shutdown_timeout: Duration,
    /// The time limit to receive the header section of a request. For the first request of a
    /// connection it includes the TLS handshake.
    pub header_timeout: Duration,
    /// The time limit to receive the body of a request.
    pub body_timeout: Duration,
    /// The time limit to answer a request that has been received.
    pub request_timeout: Duration,
    /// The proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// The time limit for a client to read more of a response.
    pub write_timeout: Duration,
    /// The time limit of a connection without a request.
    pub keep_alive_timeout: Duration,
    /// The maximum number of connections of the process, divided among the threads.
    pub max_connections: usize,
    /// The maximum number of connections of a client address; 0 = half of
    /// [`ServerConfig::max_connections`].
    pub max_connections_per_address: usize,
    /// The certificate and key for TLS; `None` = plain HTTP.
    pub tls: Option<TlsFiles>,
    /// How long browsers use only HTTPS after a response over TLS; `None` = they are not asked to.
    pub hsts_max_age: Option<Duration>,
    /// The interval between two checks of the TLS files for changes.
    pub tls_reload_interval: Duration,
    /// Whether plain HTTP is allowed on loopback only.
    pub require_tls: bool,
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the server and the intermediate certificates, in this order.
    pub cert: PathBuf,
    /// The private key, unencrypted: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

impl ServerConfig {
    /// The scheme of the server's URLs.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let server = Self {
            bind: reader.address("server.bind"),
            workers: reader.number("server.workers", 0..=1024),
            drain_timeout: reader.duration("server.drain_timeout", Duration::ZERO..=HOUR),
            shutdown_timeout: reader.duration("server.shutdown_timeout", Duration::ZERO..=HOUR),
            header_timeout: reader.duration("server.header_timeout", MIN_TIMEOUT..=MINUTE),
            body_timeout: reader.duration("server.body_timeout", MIN_TIMEOUT..=10 * MINUTE),
            request_timeout: reader.duration("server.request_timeout", SECOND..=10 * MINUTE),
            trusted_proxies: reader.networks("server.trusted_proxies"),
            write_timeout: reader.duration("server.write_timeout", MIN_TIMEOUT..=10 * MINUTE),
            keep_alive_timeout: reader.duration("server.keep_alive_timeout", MIN_TIMEOUT..=HOUR),
            max_connections: reader.number("server.max_connections", 1..=1_000_000),
            max_connections_per_address: reader
                .number("server.max_connections_per_address", 0..=1_000_000),
            tls: tls(reader),
            hsts_max_age: Some(reader.whole_seconds(
                "server.hsts_max_age",
                Duration::ZERO..=730 * DAY,
                "a duration of at most 730days",
            ))
            .filter(|max_age| !max_age.is_zero()),
            tls_reload_interval: reader.duration("server.tls_reload_interval", MIN_TIMEOUT..=DAY),
            require_tls: reader.boolean("server.require_tls"),
        };
        if server.require_tls && server.tls.is_none() && !is_loopback(&server.bind) {
            reader.add_missing(
                "server.tls_cert",
                "expected a path, because server.require_tls is true and server.bind is not an \
                 address of loopback",
            );
        }
        server
    }
}

fn tls(reader: &mut Reader<'_>) -> Option<TlsFiles> {
    let cert = reader.optional_path("server.tls_cert");
    let key = reader.optional_path("server.tls_key");
    match (cert, key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
        (None, None) => None,
        (Some(_), None) => {
            reader.add_contradiction("server.tls_key", "a path, as has", "server.tls_cert");
            None
        }
        (None, Some(_)) => {
            reader.add_contradiction("server.tls_cert", "a path, as has", "server.tls_key");
            None
        }
    }
}
