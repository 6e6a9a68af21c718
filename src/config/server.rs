//! `[server]`: how requests are taken in.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::duration::{DAY, HOUR, INSTANT, MINUTE, SECOND};
use super::read::Reader;

/// `[server]`: how requests are taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
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

impl Server {
    /// The scheme of its URLs.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        Self {
            bind: read.address("server.bind"),
            workers: read.number("server.workers", 0..=1024),
            shutdown_timeout: read.duration("server.shutdown_timeout", Duration::ZERO..=HOUR),
            header_timeout: read.duration("server.header_timeout", INSTANT..=MINUTE),
            body_timeout: read.duration("server.body_timeout", INSTANT..=10 * MINUTE),
            request_timeout: read.duration("server.request_timeout", SECOND..=10 * MINUTE),
            trusted_proxies: read.networks("server.trusted_proxies"),
            write_timeout: read.duration("server.write_timeout", INSTANT..=10 * MINUTE),
            keep_alive_timeout: read.duration("server.keep_alive_timeout", INSTANT..=HOUR),
            max_connections: read.number("server.max_connections", 1..=1_000_000),
            tls: tls(read),
            tls_reload_interval: read.duration("server.tls_reload_interval", INSTANT..=DAY),
        }
    }
}

fn tls(read: &mut Reader<'_>) -> Option<TlsFiles> {
    let cert = read.optional_path("server.tls_cert");
    let key = read.optional_path("server.tls_key");
    match (cert, key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
        (None, None) => None,
        (Some(_), None) => {
            read.contradiction("server.tls_key", "a path, as has", "server.tls_cert");
            None
        }
        (None, Some(_)) => {
            read.contradiction("server.tls_cert", "a path, as has", "server.tls_key");
            None
        }
    }
}
