//! A database connection that one task owns.
//!
//! Shared statements (see [`crate::service`]) run on such a connection. A pool pings a connection
//! before each use and after it, which makes two of three round trips. A dedicated connection is
//! pinged only after a pause. It is closed if an operation other than a statement fails on it.
//!
//! PostgreSQL refuses a prepared statement if a table was altered since. The connection forgets its
//! prepared statements then, and the work is done once more. So its users never meet this error,
//! unless tables are altered twice in a row.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::Connection as _;
use tokio::time::{Instant, timeout};

use super::connector::Connector;
use super::no_server::NoServer;
use super::pool_limits::{PoolLimits, TIMEOUT_MARGIN};
use super::pooled_work;
use super::probe;
use super::server_connection::ServerConnection;
use crate::metrics::Metrics;
use crate::repository::Error;
use crate::repository::Pool;

/// A connection that was unused for this long is pinged before its next use.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);

/// A connection that is opened when it is needed, and opened again after it was lost.
pub struct DedicatedConnection {
    connector: Connector,
    limits: PoolLimits,
    metrics: Arc<Metrics>,
    connection: Option<(ServerConnection, Instant)>,
    generation: usize,
    /// Whether a statement that was given up is canceled.
    cancels: bool,
}

impl DedicatedConnection {
    /// A connection to the database of `pool`, not opened yet. `metrics` counts the connections
    /// that are opened.
    #[must_use]
    pub fn new(pool: &Pool, limits: PoolLimits, metrics: Arc<Metrics>) -> Self {
        // The statements take arrays of any length. A plan for given values is no better than a
        // generic one, and planning takes longer than running.
        let connector = pool.connector().with_settings([("plan_cache_mode", "force_generic_plan")]);
        Self { connector, limits, metrics, connection: None, generation: 0, cancels: true }
    }

    /// A connection for polling. PostgreSQL keeps its plans, even those made while the tables were
    /// small, so a plan must not scan whole tables. Only plain index scans mark the entries of dead
    /// rows, so that the next scan skips them.
    #[must_use]
    pub fn for_polling(pool: &Pool, limits: PoolLimits, metrics: Arc<Metrics>) -> Self {
        Self::new(pool, limits, metrics)
            .with_settings([("enable_seqscan", "off"), ("enable_bitmapscan", "off")])
    }

    /// A connection that numbers changes. PostgreSQL finishes a statement that has taken longer than
    /// the client waits for it: many changes may wait, and each attempt would fail the same way.
    #[must_use]
    pub fn for_sequencing(pool: &Pool, limits: PoolLimits, metrics: Arc<Metrics>) -> Self {
        let pool = pool.session_pool().unwrap_or(pool);
        let dedicated = Self::for_polling(pool, limits, metrics);
        Self { cancels: false, ..dedicated }.with_settings([("statement_timeout", "0")])
    }

    /// A connection for callbacks. Its commits do not wait for the disk: the last commits are lost
    /// if the database's machine fails a moment later. Its statements look up a few rows. The
    /// planner does not know how few, and would read whole tables.
    #[must_use]
    pub fn for_callbacks(pool: &Pool, limits: PoolLimits, metrics: Arc<Metrics>) -> Self {
        Self::new(pool, limits, metrics).with_settings([
            ("synchronous_commit", "off"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
        ])
    }

    /// Adds settings of PostgreSQL.
    fn with_settings<const N: usize>(mut self, settings: [(&str, &str); N]) -> Self {
        self.connector = self.connector.with_settings(settings);
        self
    }

    /// Takes the connection, and opens it before `deadline` if necessary. The caller gives it to
    /// [`Self::run`], or puts it back unused. The connection is closed, because its state is unknown,
    /// and its statement is canceled, if the caller's future is dropped before that.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no connection could be opened in time. Nothing was changed.
    pub async fn acquire(&mut self, deadline: Instant) -> Result<ServerConnection, Error> {
        if let Some(connection) = self.try_acquire() {
            return Ok(connection);
        }
        // The future is boxed because it is large and rarely needed.
        let mut connection = Box::pin(self.ensure_open(deadline)).await?;
        if self.cancels {
            connection.begin_statement();
        }
        Ok(connection)
    }

    /// The connection, if its last use was so recent that it needs no ping.
    pub fn try_acquire(&mut self) -> Option<ServerConnection> {
        let connector = &self.connector;
        let (mut connection, _) = self.connection.take_if(|(connection, used)| {
            used.elapsed() < PING_AFTER_IDLE && connector.is_current(connection)
        })?;
        if self.cancels {
            connection.begin_statement();
        }
        Some(connection)
    }

    /// Pings the connection, and opens another one if the ping fails. The caller marks the start of
    /// its statement.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no connection could be opened before `deadline`. Nothing was
    /// changed.
    pub async fn ensure_open(&mut self, deadline: Instant) -> Result<ServerConnection, Error> {
        if let Some((mut connection, _)) = self.connection.take()
            && self.connector.is_current(&connection)
            && let Ok(Ok(())) = timeout(TIMEOUT_MARGIN, connection.ping()).await
        {
            return Ok(connection);
        }
        self.connect(deadline).await
    }

    async fn connect(&mut self, deadline: Instant) -> Result<ServerConnection, Error> {
        let deadline = deadline.min(Instant::now() + self.limits.acquire_timeout);
        let connected = self.connector.connect(deadline).await;
        match &connected {
            Ok(_) => {
                self.generation += 1;
                self.metrics.dedicated_connections_opened.inc();
            }
            Err(_) => self.metrics.dedicated_connection_failures.inc(),
        }
        // No statement has run yet, so every error means that nothing was changed.
        connected.map_err(Error::Unavailable)
    }

    /// The number of connections opened so far. If it has grown, PostgreSQL may have been restarted
    /// or replaced since the last statement.
    pub fn generation(&self) -> usize {
        self.generation
    }

    /// Runs `work` on the taken connection, with a timeout, and puts the connection back. The
    /// connection is closed if its state is unknown after that. If PostgreSQL refuses a statement of
    /// `work` because its plan is outdated, `work` runs once more. So it must have no effect before a
    /// statement that can be refused, except in a transaction.
    ///
    /// # Errors
    /// The error of `work`, or [`Error::OutcomeUnknown`] after the timeout.
    pub async fn run<T, F>(
        &mut self,
        connection: ServerConnection,
        mut work: impl FnMut(ServerConnection) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = (ServerConnection, Result<T, Error>)>,
    {
        let work = |connection, ()| work(connection).map(|(lent, done)| (lent, (), done));
        self.run_with((), connection, work).await
    }

    /// Like [`Self::run`], for work that changes `state`. Each run gets the state that the run before
    /// has left.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub async fn run_with<S, T, F>(
        &mut self,
        mut state: S,
        mut connection: ServerConnection,
        mut work: impl FnMut(ServerConnection, S) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = (ServerConnection, S, Result<T, Error>)>,
    {
        let timeout_after = self.limits.statement_timeout + TIMEOUT_MARGIN;
        let mut is_repeated = false;
        loop {
            if connection.is_pooled() {
                // Boxed: a direct connection does not need it.
                let limit = self.limits.acquire_timeout;
                connection = Box::pin(pooled_work::begin(connection, is_repeated, limit)).await?;
                self.generation += usize::from(connection.take_restart());
            }
            let ran = {
                // Pinned here: the future is large, and each wrapper would move it.
                let working = pin!(work(connection, state));
                timeout(timeout_after, working).await
            };
            // The connection ends with the work that was dropped.
            let Ok((lent, left, mut done)) = ran else {
                return Err(Error::OutcomeUnknown(timeout_after));
            };
            (connection, state) = (lent, left);
            let is_outdated = done.as_ref().is_err_and(Error::is_outdated_plan);
            if connection.is_in_transaction() {
                (connection, done) =
                    Box::pin(pooled_work::end(connection, done, timeout_after)).await?;
            }
            if !is_outdated || is_repeated {
                self.put_back(connection, &done);
                return done;
            }
            is_repeated = true;
            if connection.is_pooled() {
                continue;
            }
            let forgetting = timeout(TIMEOUT_MARGIN, connection.clear_cached_statements()).await;
            if !matches!(forgetting, Ok(Ok(()))) {
                return done;
            }
        }
    }

    /// Closes the connection that was put back, and with it its session of PostgreSQL.
    pub fn close(&mut self) {
        self.connection = None;
    }

    /// Puts back a connection that was not used.
    pub fn put_back_unused(&mut self, connection: ServerConnection) {
        self.put_back(connection, &Ok(()));
    }

    /// Whether the connection must lead to a server that takes writes. A former primary would report
    /// no changes.
    pub fn needs_writes(&self) -> bool {
        self.connector.needs_writes()
    }

    /// Checks that the server of a connection still takes writes.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it takes none, or the error of the database.
    pub async fn check_writable(connection: &mut ServerConnection) -> Result<(), Error> {
        if probe::is_session_read_only(&mut **connection).await? {
            return Err(Error::Unavailable(NoServer::became_read_only().into()));
        }
        Ok(())
    }

    /// Puts the connection back. It is closed if its state is unknown after `result`, or if its
    /// server does not write.
    fn put_back<T>(&mut self, mut connection: ServerConnection, result: &Result<T, Error>) {
        let error = result.as_ref().err();
        if !error.is_some_and(Error::is_outcome_unknown) {
            connection.end_statement();
        }
        if error.is_some_and(Error::is_read_only) {
            self.connector.report_read_only(&connection);
        } else if connection.is_in_transaction() {
            // The transaction did not end, so the connection is closed.
        } else if error.is_none_or(Error::is_connection_usable) {
            self.connection = Some((connection, Instant::now()));
        }
    }
}
