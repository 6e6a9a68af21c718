//! Collects the values that a scrape of the metrics reports.
//!
//! A scrape queries the database, at most once in five seconds for all scrapers. A database that
//! does not answer within a second is reported as down, and the scrape continues without it.
//! Without scrapes the database gets no queries.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::{AppDirectory, Readiness, Sessions};
use crate::clock::Clock;
use crate::domain::ConsumerLimits;
use crate::metrics::{
    self, ConsumerStats, DatabaseStats, DeliveryStats, Disk, Format, Metrics, MetricsSnapshot,
    PoolStats,
};
use crate::repository::Pool;
use crate::repository::migrations::SchemaStatus;
use crate::repository::{self, connections::probe, consumers, deliveries};
use crate::telemetry::cause_chain;

/// The time for which the results of the database are reused.
const CACHE_TTL: Duration = Duration::from_secs(5);
/// The time limit for the queries of a scrape.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// Renders the metrics.
pub struct MetricsSource {
    inputs: MetricsInputs,
    cached: Mutex<Option<(Instant, DatabaseStats)>>,
}

/// The sources of the metrics.
pub struct MetricsInputs {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The database.
    pub pool: Pool,
    /// The apps and their keys, for the next expiry of a key.
    pub directory: Arc<AppDirectory>,
    /// The sessions, for the state of their cache.
    pub sessions: Sessions,
    /// Whether requests can be served.
    pub readiness: Arc<Readiness>,
    /// The current time, for the age of callbacks.
    pub clock: Clock,
    /// The data directory. It need not exist.
    pub data_dir: PathBuf,
    /// Returns the number of requests in flight.
    pub in_flight_requests: Box<dyn Fn() -> usize + Send + Sync>,
}

impl MetricsSource {
    /// A source that renders the values of `inputs`.
    #[must_use]
    pub fn new(inputs: MetricsInputs) -> Self {
        Self { inputs, cached: Mutex::new(None) }
    }

    /// The current metrics as text.
    ///
    /// # Errors
    /// Never in practice, because writing to a string does not fail.
    pub async fn render(&self, format: Format) -> Result<String, fmt::Error> {
        let database = self.database_stats().await;
        let MetricsInputs { pool, directory, sessions, data_dir, in_flight_requests, .. } =
            &self.inputs;
        let next_key_expiry = directory.expiring_keys().next_expiry();
        let snapshot = MetricsSnapshot {
            // Streams and requests that wait for changes count by themselves.
            in_flight_requests: in_flight_requests()
                .saturating_sub(self.inputs.metrics.feed.open_subscriptions()),
            pool: PoolStats {
                idle: pool.idle(),
                used: pool.in_use(),
                max: pool.max_connections(),
                wait_stats: pool.wait_stats(),
                given_up: pool.given_up_stats(),
            },
            cache: sessions.shared().cache.stats(),
            database,
            data_dir: Disk::at(data_dir),
            next_key_expiry: next_key_expiry.map_or(0, |expires_at| expires_at.timestamp()),
        };
        metrics::text(self.inputs.metrics.clone(), snapshot, format)
    }

    /// The results of the database, at most [`CACHE_TTL`] old.
    async fn database_stats(&self) -> DatabaseStats {
        let mut cached = self.cached.lock().await;
        match &*cached {
            Some((at, stats)) if at.elapsed() < CACHE_TTL => stats.clone(),
            _ => {
                let stats = self.probe_database().await;
                *cached = Some((Instant::now(), stats.clone()));
                stats
            }
        }
    }

    async fn probe_database(&self) -> DatabaseStats {
        let Ok(schema_status) = self.inputs.readiness.schema_status().await else {
            return DatabaseStats::default();
        };
        let mut stats = DatabaseStats { up: true, ..DatabaseStats::default() };
        match schema_status {
            SchemaStatus::Current | SchemaStatus::Extended(_) => stats.schema_current = true,
            SchemaStatus::ContractsPending(pending) => {
                stats.schema_current = true;
                stats.pending_migrations = pending.len();
            }
            SchemaStatus::Pending(pending) => stats.pending_migrations = pending.len(),
            SchemaStatus::Newer(_) | SchemaStatus::Dirty(_) | SchemaStatus::ChecksumMismatch(_) => {
            }
        }
        if !stats.schema_current {
            return stats;
        }
        match timeout(QUERY_TIMEOUT, self.count_rows()).await {
            Ok(Ok((size, deliveries, consumers))) => {
                stats.size = Some(size);
                stats.deliveries = Some(deliveries);
                stats.consumers = Some(consumers);
            }
            Ok(Err(error)) => tracing::warn!(
                error = %cause_chain(&error),
                "cannot count callbacks and consumers for the metrics"
            ),
            Err(_) => {
                tracing::warn!(
                    "cannot count callbacks and consumers for the metrics within {QUERY_TIMEOUT:?}"
                );
            }
        }
        stats
    }

    async fn count_rows(&self) -> Result<(u64, DeliveryStats, ConsumerStats), repository::Error> {
        let MetricsInputs { pool, clock, .. } = &self.inputs;
        let counted = deliveries::count(pool).await?;
        let oldest = counted.oldest.map(|at| (clock.now() - at).to_std().unwrap_or_default());
        let deliveries = DeliveryStats {
            pending: counted.pending,
            leased: counted.leased,
            failed: counted.failed,
            oldest_age: oldest,
        };
        let counted = consumers::count(pool, clock.now() - ConsumerLimits::IDLE_WARNING).await?;
        let consumers = ConsumerStats {
            consumers: counted.consumers,
            idle: counted.idle,
            max_lag: counted.max_lag,
            leased: counted.leased,
            ready: counted.ready,
            parked: counted.parked,
        };
        Ok((probe::size(pool).await?, deliveries, consumers))
    }
}
