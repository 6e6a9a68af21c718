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
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::time::{Instant, timeout, timeout_at};

use super::Error;
use super::outage::Outage;
use super::pool_limits::{PoolLimits, TIMEOUT_MARGIN};
use crate::metrics::Metrics;
use crate::repository::Pool;

/// A connection that was unused for this long is pinged before its next use.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);

/// A connection that is opened when it is needed, and opened again after it was lost.
pub struct DedicatedConnection {
    options: PgConnectOptions,
    limits: PoolLimits,
    metrics: Arc<Metrics>,
    outage: Arc<Outage>,
    connection: Option<(PgConnection, Instant)>,
    generation: usize,
}

impl DedicatedConnection {
    /// A connection to the database of `pool`, not opened yet. `metrics` counts the connections
    /// that are opened.
    #[must_use]
    pub fn new(pool: &Pool, limits: PoolLimits, metrics: Arc<Metrics>) -> Self {
        let options = pool.connect_options().as_ref().clone();
        // The statements take arrays of any length. A plan for given values is no better than a
        // generic one, and planning takes longer than running.
        let options = options.options([("plan_cache_mode", "force_generic_plan")]);
        let outage = pool.outage();
        Self { options, limits, metrics, outage, connection: None, generation: 0 }
    }

    /// A connection for polling. PostgreSQL keeps its plans, even those made while the tables were
    /// small, so a plan must not scan whole tables.
    #[must_use]
    pub fn for_polling(pool: &Pool, limits: PoolLimits, metrics: Arc<Metrics>) -> Self {
        Self::new(pool, limits, metrics).with_settings([("enable_seqscan", "off")])
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
        self.options = self.options.options(settings);
        self
    }

    /// Takes the connection, and opens it before `deadline` if necessary. The caller gives it to
    /// [`Self::run`], or puts it back unused. The connection is closed, because its state is unknown,
    /// if the caller's future is dropped before that.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no connection could be opened in time. Nothing was changed.
    pub async fn acquire(&mut self, deadline: Instant) -> Result<PgConnection, Error> {
        match self.try_take() {
            Some(connection) => Ok(connection),
            // The future is boxed because it is large and rarely needed.
            None => Box::pin(self.ensure_open(deadline)).await,
        }
    }

    /// The connection, if its last use was so recent that it needs no ping.
    pub fn try_take(&mut self) -> Option<PgConnection> {
        let (connection, _) =
            self.connection.take_if(|(_, used)| used.elapsed() < PING_AFTER_IDLE)?;
        Some(connection)
    }

    /// Pings the connection, and opens another one if the ping fails.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no connection could be opened before `deadline`. Nothing was
    /// changed.
    pub async fn ensure_open(&mut self, deadline: Instant) -> Result<PgConnection, Error> {
        if let Some((mut connection, _)) = self.connection.take()
            && let Ok(Ok(())) = timeout(TIMEOUT_MARGIN, connection.ping()).await
        {
            return Ok(connection);
        }
        self.connect(deadline).await
    }

    async fn connect(&mut self, deadline: Instant) -> Result<PgConnection, Error> {
        let started_at = Instant::now();
        let connecting = PgConnection::connect_with(&self.options);
        let deadline = deadline.min(Instant::now() + self.limits.acquire_timeout);
        let connected = match timeout_at(deadline, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        };
        self.outage.record(&connected, started_at);
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
        connection: PgConnection,
        mut work: impl FnMut(PgConnection) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = (PgConnection, Result<T, Error>)>,
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
        mut connection: PgConnection,
        mut work: impl FnMut(PgConnection, S) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = (PgConnection, S, Result<T, Error>)>,
    {
        let timeout_after = self.limits.statement_timeout + TIMEOUT_MARGIN;
        let mut is_repeated = false;
        loop {
            let ran = {
                // Pinned here: the future is large, and each wrapper would move it.
                let working = pin!(work(connection, state));
                timeout(timeout_after, working).await
            };
            // The connection ends with the work that was dropped.
            let Ok((lent, left, done)) = ran else {
                return Err(Error::OutcomeUnknown(timeout_after));
            };
            (connection, state) = (lent, left);
            let is_outdated = done.as_ref().is_err_and(Error::is_outdated_plan);
            if !is_outdated || is_repeated {
                self.put_back(connection, &done);
                return done;
            }
            is_repeated = true;
            let forgetting = timeout(TIMEOUT_MARGIN, connection.clear_cached_statements()).await;
            if !matches!(forgetting, Ok(Ok(()))) {
                return done;
            }
        }
    }

    /// Puts back a connection that was not used.
    pub fn put_back_unused(&mut self, connection: PgConnection) {
        self.put_back(connection, &Ok(()));
    }

    /// Puts the connection back. It is closed if its state is unknown after `result`.
    fn put_back<T>(&mut self, connection: PgConnection, result: &Result<T, Error>) {
        if result.as_ref().err().is_none_or(Error::is_connection_usable) {
            self.connection = Some((connection, Instant::now()));
        }
    }
}
