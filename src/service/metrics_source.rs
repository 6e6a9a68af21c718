//! Collects what a scrape of the metrics reports.
//!
//! The database is asked during a scrape, at most once in five seconds, however many scrapers there
//! are. A database that does not answer within a second is reported as down, and the scrape goes on
//! without it. Without scrapes the database is not asked.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::{Readiness, Sessions};
use crate::clock::Clock;
use crate::metrics::{self, Database, Deliveries, Disk, Format, Metrics, Pool, Vitals};
use crate::repository::PgPool;
use crate::repository::migrations::Standing;
use crate::repository::{self, deliveries, probe};

/// How long the answers of the database are used again.
const KEPT: Duration = Duration::from_secs(5);
/// How long the database may take to count.
const WITHIN: Duration = Duration::from_secs(1);

/// Renders the metrics.
pub struct Observatory {
    parts: Parts,
    looked: Mutex<Option<(Instant, Database)>>,
}

/// Where the metrics come from.
pub struct Parts {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The database.
    pub pool: PgPool,
    /// The sessions, for the state of their cache.
    pub sessions: Sessions,
    /// Whether requests can be served.
    pub readiness: Arc<Readiness>,
    /// The present time, for the age of callbacks.
    pub clock: Clock,
    /// The data directory. It need not exist.
    pub data_dir: PathBuf,
    /// Returns how many requests are running.
    pub running: Box<dyn Fn() -> usize + Send + Sync>,
}

impl Observatory {
    /// Renders what `parts` report.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts, looked: Mutex::new(None) }
    }

    /// The metrics as they are now, as text.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub async fn text(&self, format: Format) -> Result<String, fmt::Error> {
        let database = self.database().await;
        let Parts { pool, sessions, data_dir, running, .. } = &self.parts;
        let (size, idle) = (pool.size() as usize, pool.num_idle());
        let vitals = Vitals {
            running: running(),
            pool: Pool {
                idle: idle.min(size),
                used: size.saturating_sub(idle),
                max: pool.options().get_max_connections(),
                acquires: pool.acquires(),
            },
            cache: sessions.shared().cache.vitals(),
            database,
            data_dir: Disk::of(data_dir),
        };
        metrics::text(self.parts.metrics.clone(), vitals, format)
    }

    /// The answers of the database, at most [`KEPT`] old.
    async fn database(&self) -> Database {
        let mut looked = self.looked.lock().await;
        match &*looked {
            Some((at, told)) if at.elapsed() < KEPT => told.clone(),
            _ => {
                let told = self.look().await;
                *looked = Some((Instant::now(), told.clone()));
                told
            }
        }
    }

    async fn look(&self) -> Database {
        let Ok(standing) = self.parts.readiness.standing().await else {
            return Database::default();
        };
        let mut told = Database { up: true, ..Database::default() };
        match standing {
            Standing::Current => told.current = true,
            Standing::Pending(pending) => told.pending_migrations = pending.len(),
            Standing::Newer(_) | Standing::Unfinished(_) | Standing::Altered(_) => {}
        }
        if !told.current {
            return told;
        }
        match timeout(WITHIN, self.contents()).await {
            Ok(Ok((size, deliveries))) => {
                told.size = Some(size);
                told.deliveries = Some(deliveries);
            }
            Ok(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot count callbacks for the metrics"
            ),
            Err(_) => tracing::warn!("cannot count callbacks for the metrics within {WITHIN:?}"),
        }
        told
    }

    async fn contents(&self) -> Result<(u64, Deliveries), repository::Error> {
        let Parts { pool, clock, .. } = &self.parts;
        let counted = deliveries::count(pool).await?;
        let oldest = counted.oldest.map(|at| (clock.now() - at).to_std().unwrap_or_default());
        let deliveries = Deliveries {
            pending: counted.pending,
            leased: counted.leased,
            failed: counted.failed,
            oldest,
        };
        Ok((probe::size(pool).await?, deliveries))
    }
}
