//! The readiness of the server to serve requests.
//!
//! Every client may ask, so the number of statements does not depend on the number of callers: one check
//! runs at a time, all callers that wait share its result, and checks do not begin close together. The
//! surprise: a check runs to its end even if its callers are gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::repository;
use crate::repository::Pool;
use crate::repository::connections::write_probe::WriteProbe;
use crate::repository::migrations::condition::{self, DatabaseCondition};
use crate::repository::migrations::{MigrationList, SchemaStatus};
use crate::service::database_identity::DatabaseIdentity;
use crate::service::database_servers::{self, DatabaseServerState};
use crate::telemetry::cause_chain;

/// The time limit of the database. Probes usually give up after one or two seconds, and must get
/// the reason before.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The server is not ready if no write has ended for this time. A disk that is slow for a moment
/// must not make all servers unavailable at once.
const MAX_WRITE_TIME: Duration = Duration::from_secs(5);
/// Checks in a second, at most. A caller waits for the next one.
const MAX_CHECKS_PER_SECOND: u32 = 10;
/// The time for which the states of the database servers are reused.
const SERVERS_TTL: Duration = Duration::from_secs(1);

/// The reason why the server cannot serve requests.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// The database did not answer in time, or no connection became free in time.
    #[error("the database does not answer in time")]
    Timeout(#[source] Option<repository::Error>),
    /// The database reported an error.
    #[error("the database cannot be reached")]
    Unreachable(#[source] repository::Error),
    /// The database takes no writes.
    #[error("the database is read-only: it is a standby, or default_transaction_read_only is on")]
    ReadOnly,
    /// The role lacks a right that a server needs.
    #[error("the database role lacks rights: {0}")]
    MissingRights(String),
    /// Row level security would hide rows of Muster.
    #[error("row level security is on for tables of Muster: {0}")]
    FilteredTables(String),
    /// Tables of Muster are gone or have other names.
    #[error("the database lacks tables of Muster: {0}")]
    MissingTables(String),
    /// Tables of another program come before those of Muster.
    #[error("tables in another schema hide those of Muster: {0}")]
    HiddenTables(String),
    /// A write has not ended for this time.
    #[error(
        "writes do not end: one has waited for {} s. The commit probably waits for a synchronous \
         standby of PostgreSQL", .0.as_secs()
    )]
    WritesWait(Duration),
    /// The schema is not the one that this program needs.
    #[error("{0}")]
    Schema(String),
}

/// Checks whether the server can serve requests.
pub struct Readiness {
    checker: Arc<Checker>,
    /// The check that runs, or the last one.
    check: Mutex<Option<RunningCheck>>,
    database: DatabaseIdentity,
}

/// The result of a check.
#[derive(Clone, Debug)]
pub struct ReadinessReport {
    /// Whether the server can serve requests, or the reason why not.
    pub result: Result<(), Arc<NotReady>>,
    /// The state of each server of the database, at most a second old. Empty if the database has one
    /// server only.
    pub servers: Arc<[DatabaseServerState]>,
}

/// A check that all callers share.
struct RunningCheck {
    starts_at: Instant,
    /// `None` until the check has ended.
    report: watch::Receiver<Option<ReadinessReport>>,
}

/// The work of a check.
struct Checker {
    pool: Pool,
    migrations: MigrationList,
    writes: WriteProbe,
    servers: tokio::sync::Mutex<Option<CachedServers>>,
    /// Whether the last check found a reason.
    is_not_ready: AtomicBool,
}

/// The states of the database servers at one moment.
struct CachedServers {
    at: Instant,
    states: Arc<[DatabaseServerState]>,
}

impl Readiness {
    /// Checks the database behind `pool`, for a program that has these migrations.
    ///
    /// # Errors
    /// The database fails.
    pub async fn open(pool: Pool, migrations: MigrationList) -> Result<Self, repository::Error> {
        let database = DatabaseIdentity::read(&pool).await?;
        let checker = Checker {
            writes: WriteProbe::new(pool.clone()),
            servers: tokio::sync::Mutex::default(),
            is_not_ready: AtomicBool::default(),
            pool,
            migrations,
        };
        Ok(Self { checker: Arc::new(checker), check: Mutex::default(), database })
    }

    /// Identifies the database.
    #[must_use]
    pub fn database(&self) -> &DatabaseIdentity {
        &self.database
    }

    /// Checks that the database answers, has the schema of this program and takes writes, which end.
    /// Takes little more than a second.
    pub async fn check(&self) -> ReadinessReport {
        let mut report = {
            // No code panics while it holds the lock.
            let mut check = self.check.lock().unwrap_or_else(PoisonError::into_inner);
            match &*check {
                Some(last) if last.is_running() => last.report.clone(),
                last => {
                    let interval = Duration::from_secs(1) / MAX_CHECKS_PER_SECOND;
                    let now = Instant::now();
                    let starts_at = last.as_ref().map_or(now, |last| last.starts_at + interval);
                    let next = self.checker.clone().begin(starts_at.max(now));
                    check.insert(next).report.clone()
                }
            }
        };
        // A thread that stops ends its check.
        let report = report.wait_for(Option::is_some).await.map_or(None, |report| report.clone());
        report.unwrap_or_else(|| ReadinessReport {
            result: Err(Arc::new(NotReady::Timeout(None))),
            servers: Arc::default(),
        })
    }

    /// Compares the schema with the one that this program needs. Takes at most a second.
    pub(super) async fn schema_status(&self) -> Result<SchemaStatus, NotReady> {
        Ok(within_timeout(self.checker.condition()).await?.schema)
    }
}

impl RunningCheck {
    fn is_running(&self) -> bool {
        self.report.borrow().is_none() && self.report.has_changed().is_ok()
    }
}

impl Checker {
    /// Begins a check at a time.
    fn begin(self: Arc<Self>, starts_at: Instant) -> RunningCheck {
        let (sender, report) = watch::channel(None);
        tokio::spawn(async move {
            sleep_until(starts_at).await;
            sender.send_replace(Some(self.run().await));
        });
        RunningCheck { starts_at, report }
    }

    /// Checks everything, and reports a change in the log.
    async fn run(&self) -> ReadinessReport {
        let (result, servers) = join(self.check(), self.servers()).await;
        let was_not_ready = self.is_not_ready.swap(result.is_err(), Ordering::SeqCst);
        match &result {
            Err(error) if !was_not_ready => {
                tracing::warn!(error = %cause_chain(error), "not ready");
            }
            Ok(()) if was_not_ready => tracing::info!("ready again"),
            _ => {}
        }
        ReadinessReport { result: result.map_err(Arc::new), servers }
    }

    async fn check(&self) -> Result<(), NotReady> {
        let condition = within_timeout(self.condition()).await?;
        if !condition.missing_rights.is_empty() {
            return Err(NotReady::MissingRights(condition.missing_rights.join(", ")));
        }
        if !condition.filtered_tables.is_empty() {
            return Err(NotReady::FilteredTables(condition.filtered_tables.join(", ")));
        }
        if !condition.missing_tables.is_empty() {
            return Err(NotReady::MissingTables(condition.missing_tables.join(", ")));
        }
        if !condition.hiding_tables.is_empty() {
            return Err(NotReady::HiddenTables(condition.hiding_tables.join(", ")));
        }
        match condition.schema {
            schema if schema.is_usable() && condition.is_read_only => Err(NotReady::ReadOnly),
            SchemaStatus::Current
            | SchemaStatus::ContractsPending(_)
            | SchemaStatus::Extended(_) => match self.writes.waiting_time() {
                time if time < MAX_WRITE_TIME => Ok(()),
                time => Err(NotReady::WritesWait(time)),
            },
            SchemaStatus::Pending(pending) => Err(NotReady::Schema(format!(
                "migrations pending: {}; run `muster migrate`",
                pending.len()
            ))),
            SchemaStatus::Newer(_) => {
                Err(NotReady::Schema("the database is newer than this program".into()))
            }
            SchemaStatus::Dirty(version) | SchemaStatus::ChecksumMismatch(version) => {
                Err(NotReady::Schema(format!("migration {version} is not as this program left it")))
            }
        }
    }

    async fn condition(&self) -> Result<DatabaseCondition, repository::Error> {
        condition::read(&self.pool, &self.migrations).await
    }

    /// The state of each server of the database. Takes at most a second.
    async fn servers(&self) -> Arc<[DatabaseServerState]> {
        if self.pool.server_count() < 2 {
            return Arc::default();
        }
        let mut cached = self.servers.lock().await;
        match &*cached {
            Some(cached) if cached.at.elapsed() < SERVERS_TTL => cached.states.clone(),
            _ => {
                let states: Arc<[_]> = database_servers::states(&self.pool).await.into();
                *cached = Some(CachedServers { at: Instant::now(), states: states.clone() });
                states
            }
        }
    }
}

async fn within_timeout<T>(
    work: impl Future<Output = Result<T, repository::Error>>,
) -> Result<T, NotReady> {
    let result = tokio::time::timeout(TIMEOUT, work).await;
    Ok(result.map_err(|_| NotReady::Timeout(None))??)
}

impl From<repository::Error> for NotReady {
    fn from(error: repository::Error) -> Self {
        match error {
            error if error.is_acquire_timeout() => Self::Timeout(Some(error)),
            error if error.is_read_only() => Self::ReadOnly,
            error => Self::Unreachable(error),
        }
    }
}
