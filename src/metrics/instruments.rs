//! The instruments of one application: counters, gauges and histograms.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::{Connections, Counter, Histogram, Requests, StatementStats};

/// All that one application counts.
#[derive(Debug)]
pub struct Metrics {
    /// Connections of clients.
    pub connections: Connections,
    /// Requests and their answers.
    pub requests: Requests,
    /// Reads that share statements.
    pub reads: Arc<StatementStats>,
    /// Creates that share statements.
    pub creates: Arc<StatementStats>,
    /// Changes that share statements.
    pub updates: Arc<StatementStats>,
    /// Connections of their own that tasks made, for the first time or anew.
    pub dedicated_connections_opened: Counter,
    /// Connections of their own that tasks could not make.
    pub dedicated_connection_failures: Counter,
    /// Sessions found in memory.
    pub cache_hits: Counter,
    /// Sessions not found in memory, or found too old to be shown.
    pub cache_misses: Counter,
    /// Sessions that went because memory was needed.
    pub cache_evictions: Counter,
    /// Changes that were decided anew because another write was faster.
    pub version_conflicts: Counter,
    /// Changes that were decided anew because PostgreSQL ended a deadlock.
    pub deadlocks: Counter,
    /// Callbacks.
    pub callbacks: Callbacks,
}

/// The results of callbacks.
#[derive(Debug)]
pub struct Callbacks {
    /// Tries that were acknowledged.
    pub acknowledged: Counter,
    /// Tries that got an answer that acknowledges nothing.
    pub rejected: Counter,
    /// Tries that got no answer.
    pub no_response: Counter,
    /// Callbacks given up.
    pub failed: Counter,
    /// How long tries take, in nanoseconds.
    pub durations: Histogram,
    /// How many tries run now.
    pub in_flight: AtomicU64,
    /// How many apps are slowed down now.
    pub open_circuits: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connections: Connections::default(),
            requests: Requests::default(),
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
            callbacks: Callbacks {
                acknowledged: Counter::default(),
                rejected: Counter::default(),
                no_response: Counter::default(),
                failed: Counter::default(),
                durations: Histogram::for_long_durations(),
                in_flight: AtomicU64::new(0),
                open_circuits: AtomicU64::new(0),
            },
        }
    }
}
