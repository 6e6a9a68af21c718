//! The instruments of one application: counters, gauges and histograms.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::{Connections, Counter, Histogram, Requests, Statements};

/// All that one application counts.
#[derive(Debug)]
pub struct Metrics {
    /// Connections of clients.
    pub connections: Connections,
    /// Requests and their answers.
    pub requests: Requests,
    /// Reads that share statements.
    pub reads: Arc<Statements>,
    /// Creates that share statements.
    pub creates: Arc<Statements>,
    /// Changes that share statements.
    pub updates: Arc<Statements>,
    /// Connections of their own that tasks made, for the first time or anew.
    pub connects: Counter,
    /// Connections of their own that tasks could not make.
    pub connect_failures: Counter,
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
    pub given_up: Counter,
    /// How long tries take, in nanoseconds.
    pub durations: Histogram,
    /// How many tries run now.
    pub under_way: AtomicU64,
    /// How many apps are slowed down now.
    pub slowed: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connections: Connections::default(),
            requests: Requests::default(),
            reads: Arc::default(),
            creates: Arc::default(),
            updates: Arc::default(),
            connects: Counter::default(),
            connect_failures: Counter::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            cache_evictions: Counter::default(),
            version_conflicts: Counter::default(),
            deadlocks: Counter::default(),
            callbacks: Callbacks {
                acknowledged: Counter::default(),
                rejected: Counter::default(),
                no_response: Counter::default(),
                given_up: Counter::default(),
                durations: Histogram::patient(),
                under_way: AtomicU64::new(0),
                slowed: AtomicU64::new(0),
            },
        }
    }
}
