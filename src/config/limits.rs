//! `[limits]`: limits of sizes, numbers and rates.

use super::read::Reader;

/// `[limits]`: limits of sizes, numbers and rates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// The maximum request body, in bytes.
    pub max_body_bytes: usize,
    /// The maximum memory for the bodies of running requests, in bytes; at least twice
    /// [`LimitsConfig::max_body_bytes`].
    pub max_body_bytes_in_flight: usize,
    /// The maximum length of path and query, in bytes.
    pub max_uri_bytes: usize,
    /// The maximum header section of a request, in bytes; at least [`LimitsConfig::max_uri_bytes`].
    pub max_header_bytes: u32,
    /// The maximum number of headers of a request.
    pub max_headers: usize,
    /// The minimum number of members of a new session; at least 1 and at most
    /// [`LimitsConfig::max_members`].
    pub min_members: usize,
    /// The maximum number of members of a session.
    pub max_members: usize,
    /// The maximum number of requests that wait in one queue for the database; at least 1.
    pub max_queued: usize,
    /// The maximum size of all responses of more than 16 KiB that clients have not read yet, in
    /// bytes. An enterprise may have a quarter of it.
    pub max_response_bytes_in_flight: usize,
    /// The maximum number of requests of an app per second; 0 = no limit.
    pub requests_per_second: u32,
    /// The maximum number of requests of an app at once after a pause; 0 = as many as in a second.
    pub max_burst: u32,
    /// The maximum number of streams and waiting requests of an app; at least 1 and at most
    /// [`LimitsConfig::max_streams_per_enterprise`].
    pub max_streams_per_app: usize,
    /// The maximum number of streams and waiting requests of an enterprise.
    pub max_streams_per_enterprise: usize,
    /// The maximum number of failed authentication attempts of an address; 0 = no limit.
    pub max_failed_attempts: u32,
}

impl LimitsConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let limits = Self {
            max_body_bytes: reader.number("limits.max_body_bytes", 1_024..=1_073_741_824),
            max_body_bytes_in_flight: reader
                .number("limits.max_body_bytes_in_flight", 2_048..=1_099_511_627_776),
            max_uri_bytes: reader.number("limits.max_uri_bytes", 1_024..=65_534),
            max_header_bytes: reader.number("limits.max_header_bytes", 1_024..=131_072),
            max_headers: reader.number("limits.max_headers", 8..=96),
            min_members: reader.number("limits.min_members", 1..=100_000),
            max_members: reader.number("limits.max_members", 1..=100_000),
            max_queued: reader.number("limits.max_queued", 1..=100_000),
            max_response_bytes_in_flight: reader
                .number("limits.max_response_bytes_in_flight", 1_048_576..=1_099_511_627_776),
            requests_per_second: reader.number("limits.requests_per_second", 0..=1_000_000),
            max_burst: reader.number("limits.max_burst", 0..=1_000_000),
            max_streams_per_app: reader.number("limits.max_streams_per_app", 1..=100_000),
            max_streams_per_enterprise: reader
                .number("limits.max_streams_per_enterprise", 1..=100_000),
            max_failed_attempts: reader.number("limits.max_failed_attempts", 0..=1_000_000),
        };
        if limits.max_body_bytes_in_flight / 2 < limits.max_body_bytes {
            reader.add_contradiction(
                "limits.max_body_bytes_in_flight",
                "at least twice",
                "limits.max_body_bytes",
            );
        }
        if limits.max_uri_bytes > limits.max_header_bytes as usize {
            reader.add_contradiction("limits.max_uri_bytes", "at most", "limits.max_header_bytes");
        }
        if limits.max_streams_per_app > limits.max_streams_per_enterprise {
            reader.add_contradiction(
                "limits.max_streams_per_app",
                "at most",
                "limits.max_streams_per_enterprise",
            );
        }
        if limits.min_members > limits.max_members {
            reader.add_contradiction("limits.min_members", "at most", "limits.max_members");
        }
        limits
    }
}
