//! The limits within which requests are taken in. A leaf: everything in `http` may read them.

use std::time::Duration;

/// How requests are taken in.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads; 0 = one for each core.
    pub workers: usize,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// The longest path with its query, in bytes.
    pub max_uri_bytes: usize,
    /// The largest head, in bytes; over HTTP/2, each of its fields counts for 32 more.
    pub max_header_bytes: u32,
    /// The most headers.
    pub max_headers: usize,
    /// Connections of all threads; each thread has at least one.
    pub max_connections: usize,
    /// By when a head must have arrived whole.
    pub header_timeout: Duration,
    /// By when a body must have arrived whole.
    pub body_timeout: Duration,
    /// How long an answer may wait for its client to take more of it.
    pub write_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub keep_alive_timeout: Duration,
    /// By when a request that has been read is answered.
    pub request_timeout: Duration,
    /// How long running requests may take to finish when the server stops.
    pub shutdown_timeout: Duration,
}
