//! What is counted, and how it is told to Prometheus.
//!
//! Every room but the pure ones may count here; what the numbers are called stands in one place,
//! `scrape`. Whoever counts holds the cell it counts in: nothing is looked up by name while a
//! request runs, nothing is locked, and threads write to memory of their own. There is no global
//! registry: each application has its [`Metrics`], so that several in one process stay apart.
//!
//! Every label is one of few: a route's pattern, never a path; a method or "other"; a code that is
//! written in the source. What callers send never becomes a label.

mod acquires;
mod cells;
mod connections;
mod page;
mod process;
mod requests;
mod scrape;
mod statements;
mod vitals;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

pub use acquires::Acquires;
pub use cells::{Counter, Histogram, Level};
pub use connections::{Connections, Cut, Open};
pub use page::Format;
pub use process::Disk;
pub use requests::{Requests, Route};
pub use scrape::text;
pub use statements::Statements;
pub use vitals::{Cache, Database, Deliveries, Pool, Vitals};

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
    /// Changes that were decided anew because somebody was faster.
    pub version_conflicts: Counter,
    /// Changes that were decided anew because PostgreSQL ended a deadlock.
    pub deadlocks: Counter,
    /// Callbacks.
    pub callbacks: Callbacks,
}

/// What becomes of callbacks.
#[derive(Debug)]
pub struct Callbacks {
    /// Tries that were acknowledged.
    pub acknowledged: Counter,
    /// Tries that got an answer that acknowledges nothing.
    pub refused: Counter,
    /// Tries that got no answer.
    pub unanswered: Counter,
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
                refused: Counter::default(),
                unanswered: Counter::default(),
                given_up: Counter::default(),
                durations: Histogram::patient(),
                under_way: AtomicU64::new(0),
                slowed: AtomicU64::new(0),
            },
        }
    }
}
