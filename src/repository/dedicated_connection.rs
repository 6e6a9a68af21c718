//! A connection that one task owns.
//!
//! Statements that many requests share (see [`crate::service`]) run on one of these. The pool pings
//! a connection before it lends it and when it comes back, which is two of three round trips. A
//! dedicated connection is pinged only after a pause, and is closed if anything but a statement
//! fails on it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::time::{Instant, timeout, timeout_at};

use super::Error;
use super::pool::{PoolLimits, TIMEOUT_MARGIN};
use crate::metrics::Metrics;
use crate::repository::Pool;

/// A connection that was unused for this long is pinged before its next use.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);

/// A connection that is opened when it is needed, and opened again when it was lost.
pub struct DedicatedConnection {
    options: PgConnectOptions,
    limits: PoolLimits,
    metrics: Arc<Metrics>,
    connection: Option<(PgConnection, Instant)>,
    generation: usize,
}

impl DedicatedConnection {
    /// A connection to the database of `pool`, not opened yet. `metrics` counts each one that is
    /// opened.
    #[must_use]
    pub fn new(pool: &Pool, limits: PoolLimits, metrics: Arc<Metrics>) -> Self {
        let options = pool.connect_options().as_ref().clone();
        // The statements take arrays of any length. A plan made for their values is no better than
        // a generic one, and planning takes longer than running.
        let options = options.options([("plan_cache_mode", "force_generic_plan")]);
        Self { options, limits, metrics, connection: None, generation: 0 }
    }

    /// A connection for polling. Its plans are kept, also one made while the tables were small;
    /// such a plan must not scan whole tables.
    #[must_use]
    pub fn for_polling(pool: &Pool, limits: PoolLimits, metrics: Arc<Metrics>) -> Self {
        Self::new(pool, limits, metrics).with_settings([("enable_seqscan", "off")])
    }

    /// A connection for callbacks. Its commits do not wait for the disk: if the database's machine
    /// dies a moment later, the last ones are lost, as if they had never been made. Its statements
    /// look up a few rows; the planner cannot know how few, and would read whole tables.
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

    /// Takes the connection, opened before the deadline `by`. The caller gives it back together
    /// with the result of the work. If the caller's future is dropped before that, the connection
    /// is closed, as its state is unknown.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no connection could be opened in time: nothing was done.
    pub async fn acquire(&mut self, deadline: Instant) -> Result<PgConnection, Error> {
        match self.try_take() {
            Some(connection) => Ok(connection),
            // Boxed: this future is large and rarely needed.
            None => Box::pin(self.ensure_open(deadline)).await,
        }
    }

    /// The connection, if it was used a moment ago and so needs no ping.
    pub fn try_take(&mut self) -> Option<PgConnection> {
        let (connection, _) =
            self.connection.take_if(|(_, used)| used.elapsed() < PING_AFTER_IDLE)?;
        Some(connection)
    }

    /// Pings the connection, and opens another one if there is no answer.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no connection could be opened before the deadline `by`: nothing
    /// was done.
    pub async fn ensure_open(&mut self, deadline: Instant) -> Result<PgConnection, Error> {
        if let Some((mut connection, _)) = self.connection.take()
            && let Ok(Ok(())) = timeout(TIMEOUT_MARGIN, connection.ping()).await
        {
            return Ok(connection);
        }
        self.connect(deadline).await
    }

    async fn connect(&mut self, deadline: Instant) -> Result<PgConnection, Error> {
        let connecting = PgConnection::connect_with(&self.options);
        let deadline = deadline.min(Instant::now() + self.limits.acquire_timeout);
        let connected = match timeout_at(deadline, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        };
        match &connected {
            Ok(_) => {
                self.generation += 1;
                self.metrics.dedicated_connections_opened.inc();
            }
            Err(_) => self.metrics.dedicated_connection_failures.inc(),
        }
        // Nothing was done, whatever the error is.
        connected.map_err(Error::Unavailable)
    }

    /// How many connections were opened so far. If the number has grown, PostgreSQL may have been
    /// restarted or replaced since the last statement.
    pub fn generation(&self) -> usize {
        self.generation
    }

    /// Runs `work` on the connection that was taken, with a timeout.
    ///
    /// # Errors
    /// The error of `work`, or [`Error::Unanswered`] if it takes too long.
    pub async fn with_timeout<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let timeout_after = self.limits.statement_timeout + TIMEOUT_MARGIN;
        timeout(timeout_after, work).await.unwrap_or(Err(Error::OutcomeUnknown(timeout_after)))
    }

    /// Gives the connection back. It is closed if its state is unknown after `done`.
    pub fn put_back<T>(&mut self, connection: PgConnection, result: &Result<T, Error>) {
        if result.as_ref().err().is_none_or(Error::is_connection_usable) {
            self.connection = Some((connection, Instant::now()));
        }
    }
}
