//! Opens all connections to a database: of the pool, and dedicated ones.
//!
//! A database may have several servers, of which one is the primary. The servers are tried in
//! their order, beginning with the one that was used last. Each is asked for its role, and left if
//! the role is wrong.
//!
//! A *server generation* is the time in which one server is used. When another server is found, or the server
//! refuses to write, a new generation begins, and the connections of earlier generations are closed at their
//! next use: a former primary would answer with old data.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Error, Row as _};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection_settings;
use super::database_servers::DatabaseServers;
use super::given_up::{Backend, Canceler};
use super::no_server::{ConnectError, NoServer};
use super::outage::Outage;
use super::pooler_check;
use super::server_connection::{PooledSession, ServerConnection};
use crate::config::TargetServer;
use crate::metrics::GivenUpStats;

/// After a search that found no server, the next one begins at the earliest after this time. During
/// a failover, all tasks that need a connection would otherwise search at once, again and again.
const SEARCH_INTERVAL: Duration = Duration::from_millis(100);

/// The facts that a server tells about itself and the connection, in one round trip.
const IDENTIFY: &str = "
    select pg_backend_pid(),
           (select backend_start::text from pg_stat_get_activity(pg_backend_pid())),
           pg_is_in_recovery(),
           current_setting('transaction_read_only')::bool,
           coalesce(current_setting('muster.link', true), '') = 'direct'";

/// Opens connections to the servers of a database. A clone shares the server generations.
#[derive(Clone)]
pub(in crate::repository) struct Connector {
    servers: DatabaseServers,
    /// The statement that begins a transaction, if a pooler is between.
    begin: Option<Arc<str>>,
    state: Arc<ConnectorState>,
}

struct ConnectorState {
    /// The index of the server that was used last.
    current: AtomicUsize,
    /// The index of the server that is tried first: the one that was used last, or after a search
    /// without success, a standby, which may be promoted.
    start: AtomicUsize,
    server_generation: AtomicU64,
    generation_end: watch::Sender<()>,
    failed: Mutex<Option<FailedSearch>>,
    /// Held by the task that searches after a search has failed.
    searching: tokio::sync::Mutex<()>,
    outage: Arc<Outage>,
    canceler: Canceler,
}

/// The last search, which found no server.
struct FailedSearch {
    at: Instant,
    reason: NoServer,
}

impl Connector {
    pub(super) fn new(servers: DatabaseServers) -> Self {
        let state = ConnectorState {
            current: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            server_generation: AtomicU64::new(0),
            generation_end: watch::Sender::new(()),
            failed: Mutex::default(),
            searching: tokio::sync::Mutex::default(),
            outage: Arc::default(),
            canceler: Canceler::new(servers.clone()),
        };
        let begin = servers.begin_statement().map(Arc::from);
        Self { servers, begin, state: Arc::new(state) }
    }

    /// The same with more settings of PostgreSQL.
    pub(super) fn with_settings<const N: usize>(&self, settings: [(&str, &str); N]) -> Self {
        let servers = self.servers.with_settings(&settings);
        let begin = servers.begin_statement().map(Arc::from);
        Self { servers, begin, state: self.state.clone() }
    }

    pub(super) fn servers(&self) -> &DatabaseServers {
        &self.servers
    }

    /// The index of the server that was used last.
    pub(super) fn current_index(&self) -> usize {
        self.state.current.load(Ordering::Acquire)
    }

    /// The options of the server that was used last.
    pub(super) fn current_options(&self) -> Arc<PgConnectOptions> {
        self.servers.get(self.current_index())
    }

    pub(super) fn given_up_stats(&self) -> Arc<GivenUpStats> {
        self.state.canceler.stats()
    }

    /// Opens a connection to a server of the required role.
    ///
    /// # Errors
    /// When no such server answers in time.
    pub(super) async fn connect(&self, deadline: Instant) -> Result<ServerConnection, Error> {
        let started_at = Instant::now();
        let connected = self.connect_without_log(deadline).await;
        self.state.outage.record(&connected, started_at);
        connected
    }

    /// Like [`Self::connect`], for a caller that reports the error itself.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub(super) async fn connect_without_log(
        &self,
        deadline: Instant,
    ) -> Result<ServerConnection, Error> {
        let connected = timeout_at(deadline, self.search(deadline)).await;
        connected.unwrap_or(Err(Error::PoolTimedOut))
    }

    async fn search(&self, deadline: Instant) -> Result<ServerConnection, Error> {
        let turn = match self.state.has_failed() {
            true => Some(self.state.searching.lock().await),
            false => None,
        };
        if let Some(reason) = self.state.recent_failure() {
            return Err(reason.into());
        }
        // As soon as one search has found a server, the others need not wait for each other.
        let _search_guard = turn.filter(|_| self.state.has_failed());
        let (count, start) = (self.servers.len(), self.state.start.load(Ordering::Acquire));
        let mut errors = Vec::new();
        for step in 0..count {
            let index = (start + step) % count;
            match self.attempt(index, deadline, count - step).await {
                Ok((connection, backend)) => {
                    let generation = self.state.record_primary(index, &self.servers);
                    let canceler = self.state.canceler.clone();
                    let pooled = self.begin.clone().map(|begin| PooledSession {
                        server: index,
                        begin,
                        is_in_transaction: false,
                        started_at: None,
                        is_restarted: false,
                    });
                    let connection =
                        ServerConnection::new(connection, generation, backend, pooled, canceler);
                    return Ok(connection);
                }
                // The only server has the most precise error.
                Err(ConnectError::Failed(error)) if count == 1 => return Err(error),
                Err(error) => errors.push((index, error)),
            }
        }
        let standby =
            |(_, error): &&(usize, ConnectError)| matches!(error, ConnectError::ReadOnly(_));
        if let Some((index, _)) = errors.iter().find(standby) {
            self.state.start.store(*index, Ordering::Release);
        }
        let reason = NoServer::new(&self.servers, &errors);
        *self.state.lock_failed() =
            Some(FailedSearch { at: Instant::now(), reason: reason.clone() });
        Err(reason.into())
    }

    /// Connects to a server. A server that does not answer leaves time for the other
    /// `remaining_servers`.
    async fn attempt(
        &self,
        index: usize,
        deadline: Instant,
        remaining_servers: usize,
    ) -> Result<(PgConnection, Option<Backend>), ConnectError> {
        let share = deadline.saturating_duration_since(Instant::now())
            / u32::try_from(remaining_servers).unwrap_or(u32::MAX);
        let limit = self.servers.connect_timeout().map_or(share, |limit| limit.min(share));
        let attempt = async {
            self.state.canceler.admit(index).await;
            let is_pooled = self.servers.is_pooled();
            let connected = self.servers.connect(index).await;
            let mut connection = connected.map_err(pooler_check::explain_refusal)?;
            let identify = match is_pooled {
                true => AssertSqlSafe(IDENTIFY.to_owned()),
                false => connection_settings::completing(IDENTIFY),
            };
            let row = sqlx::raw_sql(identify).fetch_one(&mut connection).await?;
            if !is_pooled && !row.try_get::<bool, _>(4)? {
                return Err(pooler_check::dropped_settings());
            }
            let backend = match (row.try_get(0)?, row.try_get(1)?) {
                (process_id, Some(started_at)) if !is_pooled => {
                    Some(Backend { server: index, process_id, started_at })
                }
                _ => None,
            };
            Ok::<_, Error>((connection, backend, row.try_get(2)?, row.try_get(3)?))
        };
        let attempted = timeout(limit, attempt).await.unwrap_or(Err(Error::PoolTimedOut));
        let (connection, backend, is_standby, is_read_only) =
            attempted.map_err(ConnectError::Failed)?;
        match (self.servers.target(), is_standby, is_read_only) {
            (TargetServer::ReadWrite | TargetServer::Primary, true, _) => {
                Err(ConnectError::ReadOnly("a standby"))
            }
            (TargetServer::ReadWrite, false, true) => Err(ConnectError::ReadOnly("read-only")),
            (TargetServer::Any, ..)
            | (TargetServer::ReadWrite, false, false)
            | (TargetServer::Primary, false, _) => Ok((connection, backend)),
        }
    }

    /// Whether a connection belongs to the present server generation.
    pub(super) fn is_current(&self, connection: &ServerConnection) -> bool {
        connection.server_generation() == self.state.server_generation.load(Ordering::Acquire)
    }

    /// Whether transactions must be able to write, so that a server is left when they are not.
    pub(super) fn needs_writes(&self) -> bool {
        self.servers.target() == TargetServer::ReadWrite
    }

    /// Completes when the connections of this time must not be used any more.
    pub(in crate::repository) fn generation_end(
        &self,
    ) -> impl Future<Output = ()> + Send + 'static {
        let mut generation = self.state.generation_end.subscribe();
        async move {
            // Without a sender there is no other server.
            if generation.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Reports that the server of this connection has refused to write. If there are several
    /// servers, another one is tried.
    pub(super) fn report_read_only(&self, connection: &ServerConnection) {
        let (count, current) = (self.servers.len(), self.state.current.load(Ordering::Acquire));
        if count > 1 && self.is_current(connection) {
            self.state.start.store((current + 1) % count, Ordering::Release);
            self.state.end_generation();
            let server = self.servers.name(current);
            tracing::warn!(server, "the database server refuses to write: trying the others");
        }
    }
}

impl ConnectorState {
    /// Records that a server has the required role. Returns the server generation.
    fn record_primary(&self, index: usize, servers: &DatabaseServers) -> u64 {
        *self.lock_failed() = None;
        self.start.store(index, Ordering::Release);
        let before = self.current.swap(index, Ordering::AcqRel);
        if before != index {
            self.end_generation();
            tracing::info!(server = servers.name(index), "using another database server");
        }
        self.server_generation.load(Ordering::Acquire)
    }

    fn end_generation(&self) {
        self.server_generation.fetch_add(1, Ordering::AcqRel);
        self.generation_end.send_replace(());
    }

    fn has_failed(&self) -> bool {
        self.lock_failed().is_some()
    }

    fn recent_failure(&self) -> Option<NoServer> {
        let failed = self.lock_failed();
        let recent = failed.as_ref().filter(|failed| failed.at.elapsed() < SEARCH_INTERVAL)?;
        Some(recent.reason.clone())
    }

    fn lock_failed(&self) -> MutexGuard<'_, Option<FailedSearch>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
