//! Figures that are not counted, but read for each scrape.

use std::sync::Arc;
use std::time::Duration;

use super::{AcquireStats, ConsumerStats, Disk, GivenUpStats};

/// The state of the service at one moment.
#[derive(Clone, Debug, Default)]
pub struct MetricsSnapshot {
    /// The number of running requests.
    pub in_flight_requests: usize,
    /// The connections of the pool.
    pub pool: PoolStats,
    /// Sessions in memory, if any are held.
    pub cache: Option<CacheStats>,
    /// The database.
    pub database: DatabaseStats,
    /// The file system of data_dir, if it exists.
    pub data_dir: Option<Disk>,
    /// When the next API key expires, as a Unix time; 0 if none expires.
    pub next_key_expiry: i64,
}

/// The connections of the pool.
#[derive(Clone, Debug, Default)]
pub struct PoolStats {
    /// Idle connections.
    pub idle: usize,
    /// Connections in use.
    pub used: usize,
    /// The maximum number of connections.
    pub max: u32,
    /// The waits for a connection.
    pub wait_stats: Arc<AcquireStats>,
    /// The statements that were given up.
    pub given_up: Arc<GivenUpStats>,
}

/// Sessions in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStats {
    /// The number of sessions.
    pub entries: usize,
    /// The estimated size of the sessions, in bytes.
    pub bytes: u64,
    /// The maximum size of the sessions, in bytes.
    pub max_bytes: u64,
    /// Whether the sessions are current enough to be used.
    pub fresh: bool,
    /// Time since the last read of the changes of other servers; `None` if there was no read.
    pub sync_age: Option<Duration>,
}

/// The state of the database at the last check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseStats {
    /// Whether the database answered.
    pub up: bool,
    /// Whether the tables are those of this program.
    pub schema_current: bool,
    /// The number of migrations that have not been applied.
    pub pending_migrations: usize,
    /// The size of the database in bytes, if it is known.
    pub size: Option<u64>,
    /// The callbacks in the database, if they are known.
    pub deliveries: Option<DeliveryStats>,
    /// The consumers of the feed, if they are known.
    pub consumers: Option<ConsumerStats>,
}

/// Callbacks in the database. Each number is counted up to a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryStats {
    /// Callbacks that wait.
    pub pending: u64,
    /// Callbacks that are being sent.
    pub leased: u64,
    /// Callbacks that were given up.
    pub failed: u64,
    /// The age of the change that the oldest waiting callback reports.
    pub oldest_age: Option<Duration>,
}
