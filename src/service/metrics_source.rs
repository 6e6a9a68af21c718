//! How the service stands, for whoever scrapes its metrics.
//!
//! What the database knows is looked at when somebody asks, and at most every five seconds, however
//! many ask; a database that does not answer within a second is down, and all else is told without
//! it. When nobody asks, nothing is looked at.

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

/// For how long what the database told is told again.
const KEPT: Duration = Duration::from_secs(5);
/// How long the database may take for what is more than whether it answers.
const WITHIN: Duration = Duration::from_secs(1);

/// Sees all that metrics tell.
pub struct Observatory {
    parts: Parts,
    looked: Mutex<Option<(Instant, Database)>>,
}

/// What is looked at.
pub struct Parts {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The database.
    pub pool: PgPool,
    /// The sessions, for what of them is in memory.
    pub sessions: Sessions,
    /// Whether requests can be served.
    pub readiness: Arc<Readiness>,
    /// The time, against which callbacks are late.
    pub clock: Clock,
    /// The directory that Muster owns, if it is there.
    pub data_dir: PathBuf,
    /// How many requests run.
    pub running: Box<dyn Fn() -> usize + Send + Sync>,
}

impl Observatory {
    /// Sees `parts`.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts, looked: Mutex::new(None) }
    }

    /// The metrics as they are now, as text.
    ///
    /// # Errors
    /// When the text cannot be written, which cannot happen.
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

    /// What the database told lately.
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
            Err(_) => tracing::warn!("counting callbacks for the metrics takes too long"),
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
