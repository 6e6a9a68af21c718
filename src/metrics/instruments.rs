//! The instruments of one application: counters, gauges and histograms.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::{
    Connections, Counter, FeedStats, Histogram, HistoryStats, RequestBodies, Requests,
    ResponseStats, StatementStats,
};

/// The instruments of one application.
#[derive(Debug)]
pub struct Metrics {
    /// Connections of clients.
    pub connections: Connections,
    /// Requests and their responses.
    pub requests: Requests,
    /// The memory for the bodies of running requests.
    pub request_bodies: RequestBodies,
    /// Reads that share statements.
    pub reads: Arc<StatementStats>,
    /// Creates that share statements.
    pub creates: Arc<StatementStats>,
    /// Changes that share statements.
    pub updates: Arc<StatementStats>,
    /// Dedicated connections that were opened, first and again.
    pub dedicated_connections_opened: Counter,
    /// Dedicated connections that could not be opened.
    pub dedicated_connection_failures: Counter,
    /// Sessions found in memory.
    pub cache_hits: Counter,
    /// Sessions not found in memory, or not current enough to be used.
    pub cache_misses: Counter,
    /// Sessions that were removed to free memory.
    pub cache_evictions: Counter,
    /// Changes that were decided again because another write was faster.
    pub version_conflicts: Counter,
    /// Changes that were decided again because PostgreSQL resolved a deadlock.
    pub deadlocks: Counter,
    /// The numbering of changes.
    pub feed: FeedStats,
    /// Reads of histories.
    pub history: HistoryStats,
    /// Large responses that their clients have not read yet.
    pub responses: ResponseStats,
    /// Sealed texts that were refused.
    pub sealed_rejections: SealedRejections,
    /// Callbacks.
    pub callbacks: Callbacks,
}

/// Sealed texts that were refused. Their senders had a valid credential, except in token requests.
#[derive(Debug, Default)]
pub struct SealedRejections {
    /// Texts that are not one JSON object sealed with the app's key.
    pub unopened: Counter,
    /// Texts that were not looked at, because the app was throttled at the address.
    pub throttled: Counter,
    /// Texts that were used before.
    pub replayed: Counter,
    /// Token requests with a wrong key or a wrong time.
    pub token_requests: Counter,
}

/// The results of callbacks.
#[derive(Debug)]
pub struct Callbacks {
    /// Attempts that were acknowledged.
    pub acknowledged: Counter,
    /// Attempts with a response that acknowledges nothing.
    pub rejected: Counter,
    /// Attempts without a response.
    pub no_response: Counter,
    /// Callbacks that were given up.
    pub failed: Counter,
    /// The durations of attempts, in nanoseconds.
    pub durations: Histogram,
    /// The number of attempts that run now.
    pub in_flight: AtomicU64,
    /// The number of apps whose circuit is open now.
    pub open_circuit_breakers: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connections: Connections::default(),
            requests: Requests::default(),
            request_bodies: RequestBodies::default(),
            reads: Arc::default(),
            creates: Arc::default(),
            updates: Arc::default(),
            dedicated_connections_opened: Counter::default(),
            dedicated_connection_failures: Counter::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            cache_evictions: Counter::default(),
            version_conflicts: Counter::default(),
            deadlocks: Counter::default(),
            feed: FeedStats::default(),
            history: HistoryStats::default(),
            responses: ResponseStats::default(),
            sealed_rejections: SealedRejections::default(),
            callbacks: Callbacks {
                acknowledged: Counter::default(),
                rejected: Counter::default(),
                no_response: Counter::default(),
                failed: Counter::default(),
                durations: Histogram::for_long_durations(),
                in_flight: AtomicU64::new(0),
                open_circuit_breakers: AtomicU64::new(0),
            },
        }
    }
}
