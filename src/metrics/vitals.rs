//! Figures that are not counted, but read when Prometheus asks.

use std::sync::Arc;
use std::time::Duration;

use super::{AcquireStats, Disk};

/// How the service stands at one moment.
#[derive(Clone, Debug, Default)]
pub struct MetricsSnapshot {
    /// How many requests run.
    pub in_flight_requests: usize,
    /// The connections of the pool.
    pub pool: PoolStats,
    /// Sessions in memory, if any are held.
    pub cache: Option<CacheStats>,
    /// The database.
    pub database: DatabaseStats,
    /// The file system of data_dir, if that is there.
    pub data_dir: Option<Disk>,
}

/// The connections of the pool.
#[derive(Clone, Debug, Default)]
pub struct PoolStats {
    /// How many are idle.
    pub idle: usize,
    /// How many are used.
    pub used: usize,
    /// How many there may be.
    pub max: u32,
    /// How long they were waited for.
    pub wait_stats: Arc<AcquireStats>,
}

/// Sessions in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStats {
    /// How many.
    pub entries: usize,
    /// The memory that they take, in bytes, estimated.
    pub bytes: u64,
    /// The memory that they may take, in bytes.
    pub max_bytes: u64,
    /// Whether they can be shown.
    pub fresh: bool,
    /// Time since the last read of the changes of other servers; `None` if there was no read.
    pub sync_age: Option<Duration>,
}

/// The state of the database at the last check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseStats {
    /// Whether it answered.
    pub up: bool,
    /// Whether its tables are those of this program.
    pub schema_current: bool,
    /// How many migrations are missing.
    pub pending_migrations: usize,
    /// Its size in bytes, if it said.
    pub size: Option<u64>,
    /// The callbacks in it, if it said.
    pub deliveries: Option<DeliveryStats>,
}

/// Callbacks in the database. Each is counted up to a bound: more are as many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryStats {
    /// How many wait.
    pub pending: u64,
    /// How many are being sent.
    pub leased: u64,
    /// How many were given up.
    pub failed: u64,
    /// How long ago the change was that the oldest of those that wait tells of.
    pub oldest_age: Option<Duration>,
}
