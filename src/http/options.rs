//! The limits of the HTTP server. A leaf: every file of `http` may read them.

use std::time::Duration;

/// The limits of the HTTP server.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Worker threads; 0 = one for each core.
    pub workers: usize,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// The memory for the bodies of running requests, in bytes.
    pub max_body_bytes_in_flight: usize,
    /// The longest path with its query, in bytes.
    pub max_uri_bytes: usize,
    /// The largest header section, in bytes. Over HTTP/2, each header counts 32 bytes more.
    pub max_header_bytes: u32,
    /// The maximum number of headers.
    pub max_headers: usize,
    /// The maximum number of connections of all threads; each thread has at least one.
    pub max_connections: usize,
    /// The maximum number of connections of a client address; 0 = half of all.
    pub max_connections_per_address: usize,
    /// The time for a whole header section to arrive.
    pub header_timeout: Duration,
    /// The time for a whole body to arrive.
    pub body_timeout: Duration,
    /// The time for a client to read more of a response.
    pub write_timeout: Duration,
    /// The time that a connection may stay open without a request.
    pub keep_alive_timeout: Duration,
    /// The time from reading a request to its response.
    pub request_timeout: Duration,
    /// The time for running requests to finish when the server stops.
    pub shutdown_timeout: Duration,
    /// How long browsers use only HTTPS after a response; `None` = they are not asked to.
    pub hsts_max_age: Option<Duration>,
}

#[cfg(test)]
impl Options {
    /// Limits that no unit test reaches.
    pub(crate) fn for_tests() -> Self {
        let hour = Duration::from_secs(3_600);
        Self {
            workers: 1,
            max_body_bytes: 1 << 20,
            max_body_bytes_in_flight: 1 << 24,
            max_uri_bytes: 8_192,
            max_header_bytes: 32_768,
            max_headers: 96,
            max_connections: 1,
            max_connections_per_address: 0,
            header_timeout: hour,
            body_timeout: hour,
            write_timeout: hour,
            keep_alive_timeout: hour,
            request_timeout: hour,
            shutdown_timeout: hour,
            hsts_max_age: None,
        }
    }
}
