//! `[server]`: how requests are taken in.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::duration::{DAY, HOUR, MIN_TIMEOUT, MINUTE, SECOND};
use super::read::Reader;

/// `[server]`: how requests are taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// `HOST:PORT`. The host is an IPv4 address, an IPv6 address in brackets, or a name; port 0
    /// takes a free one.
    pub bind: String,
    /// Threads that serve requests; 0 = one for each core.
    pub workers: usize,
    /// How long a stopping server waits for running requests.
    pub shutdown_timeout: Duration,
    /// By when a request's head must have arrived whole; a first one with the TLS handshake before
    /// it.
    pub header_timeout: Duration,
    /// By when a request's body must have arrived whole.
    pub body_timeout: Duration,
    /// By when a request that has arrived whole is answered.
    pub request_timeout: Duration,
    /// The proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long an answer may wait for its client to take more of it.
    pub write_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub keep_alive_timeout: Duration,
    /// Connections of the whole process, shared out among the threads.
    pub max_connections: usize,
    /// Certificate and key for TLS; `None` = plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The interval between two checks of those files for changes.
    pub tls_reload_interval: Duration,
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and those between it and the root, in this order.
    pub cert: PathBuf,
    /// Its private key, unencrypted: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

impl ServerConfig {
    /// The scheme of its URLs.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            bind: reader.address("server.bind"),
            workers: reader.number("server.workers", 0..=1024),
            shutdown_timeout: reader.duration("server.shutdown_timeout", Duration::ZERO..=HOUR),
            header_timeout: reader.duration("server.header_timeout", MIN_TIMEOUT..=MINUTE),
            body_timeout: reader.duration("server.body_timeout", MIN_TIMEOUT..=10 * MINUTE),
            request_timeout: reader.duration("server.request_timeout", SECOND..=10 * MINUTE),
            trusted_proxies: reader.networks("server.trusted_proxies"),
            write_timeout: reader.duration("server.write_timeout", MIN_TIMEOUT..=10 * MINUTE),
            keep_alive_timeout: reader.duration("server.keep_alive_timeout", MIN_TIMEOUT..=HOUR),
            max_connections: reader.number("server.max_connections", 1..=1_000_000),
            tls: tls(reader),
            tls_reload_interval: reader.duration("server.tls_reload_interval", MIN_TIMEOUT..=DAY),
        }
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
