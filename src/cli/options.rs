//! The options of the HTTP server, from the configuration.

use crate::config::Settings;
use crate::http::{AuthOptions, Options};

/// The options of authentication and of rate limits.
pub(super) fn auth_options(Settings { server, limits, policy, .. }: &Settings) -> AuthOptions {
    AuthOptions {
        max_failed_attempts: limits.max_failed_attempts,
        requests_per_second: limits.requests_per_second,
        max_burst: limits.max_burst,
        trusted_proxies: server.trusted_proxies.clone(),
        refuse_replayed_writes: policy.refuse_replayed_writes,
    }
}

/// The options of the server.
pub(super) fn server_options(Settings { server, limits, .. }: &Settings) -> Options {
    Options {
        workers: server.workers,
        max_body_bytes: limits.max_body_bytes,
        max_body_bytes_in_flight: limits.max_body_bytes_in_flight,
        max_uri_bytes: limits.max_uri_bytes,
        max_header_bytes: limits.max_header_bytes,
        max_headers: limits.max_headers,
        max_connections: server.max_connections,
        max_connections_per_address: server.max_connections_per_address,
        header_timeout: server.header_timeout,
        body_timeout: server.body_timeout,
        write_timeout: server.write_timeout,
        keep_alive_timeout: server.keep_alive_timeout,
        request_timeout: server.request_timeout,
        shutdown_timeout: server.shutdown_timeout,
        hsts_max_age: server.tls.as_ref().and(server.hsts_max_age),
    }
}
