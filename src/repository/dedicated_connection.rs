//! A connection that one task owns.
//!
//! What many requests share (see [`crate::service`]) runs on one of these: the pool asks the server
//! whether a connection still lives before it hands it out and when it gets it back, which costs
//! two of three round trips. This one asks only after a pause, and is thrown away when anything but
//! a statement fails on it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::time::{Instant, timeout, timeout_at};

use super::Error;
use super::pool::{Limits, MARGIN};
use crate::metrics::Metrics;
use crate::repository::PgPool;

/// After a pause of this length it is asked whether the connection still lives.
const PAUSE: Duration = Duration::from_secs(1);

/// A connection that is made when it is needed, and made again when it was lost.
pub struct Line {
    options: PgConnectOptions,
    limits: Limits,
    metrics: Arc<Metrics>,
    connection: Option<(PgConnection, Instant)>,
    made: usize,
}

impl Line {
    /// To the database of `pool`. Connections that it makes are counted.
    #[must_use]
    pub fn new(pool: &PgPool, limits: Limits, metrics: Arc<Metrics>) -> Self {
        let options = pool.connect_options().as_ref().clone();
        // The statements take arrays of any length: a plan that looks at what is in them is no
        // better, and making it takes longer than running it.
        let options = options.options([("plan_cache_mode", "force_generic_plan")]);
        Self { options, limits, metrics, connection: None, made: 0 }
    }

    /// One for who looks what is new. A plan that was made while there was little is kept: it must not
    /// be one that reads all there is.
    #[must_use]
    pub fn for_looks(pool: &PgPool, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self::new(pool, limits, metrics).with([("enable_seqscan", "off")])
    }

    /// One for callbacks. Its commits do not wait for the disk: should the database's machine die
    /// the moment after, what was done is undone, as if it had never been. And its statements look
    /// up each of a few rows: the planner, which cannot know how few, would read whole tables.
    #[must_use]
    pub fn for_callbacks(pool: &PgPool, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self::new(pool, limits, metrics).with([
            ("synchronous_commit", "off"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
        ])
    }

    /// With further settings of PostgreSQL.
    fn with<const N: usize>(mut self, settings: [(&str, &str); N]) -> Self {
        self.options = self.options.options(settings);
        self
    }

    /// Takes the connection by then, to give it back with what became of the work on it. Should
    /// that never happen, because a future was dropped half-way, the connection is gone, as it must
    /// be.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is none to be had: nothing was done.
    pub async fn take(&mut self, by: Instant) -> Result<PgConnection, Error> {
        match self.at_hand() {
            Some(connection) => Ok(connection),
            // Boxed, as it is seldom, and large.
            None => Box::pin(self.open(by)).await,
        }
    }

    /// The connection, if there is one that was used just now.
    pub fn at_hand(&mut self) -> Option<PgConnection> {
        let (connection, _) = self.connection.take_if(|(_, used)| used.elapsed() < PAUSE)?;
        Some(connection)
    }

    /// Makes sure that the connection lives, or makes one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is none by then: nothing was done.
    pub async fn open(&mut self, by: Instant) -> Result<PgConnection, Error> {
        if let Some((mut connection, _)) = self.connection.take()
            && let Ok(Ok(())) = timeout(MARGIN, connection.ping()).await
        {
            return Ok(connection);
        }
        self.connect(by).await
    }

    async fn connect(&mut self, by: Instant) -> Result<PgConnection, Error> {
        let connecting = PgConnection::connect_with(&self.options);
        let by = by.min(Instant::now() + self.limits.acquire_timeout);
        let connected = match timeout_at(by, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        };
        match &connected {
            Ok(_) => {
                self.made += 1;
                self.metrics.connects.inc();
            }
            Err(_) => self.metrics.connect_failures.inc(),
        }
        // Whatever it is, nothing was done.
        connected.map_err(Error::Unavailable)
    }

    /// How many connections were made: more than before, and what PostgreSQL was asked about last may
    /// have been another one, or the same before it died.
    pub fn made(&self) -> usize {
        self.made
    }

    /// Does `work` on the connection that was taken, but not for ever.
    ///
    /// # Errors
    /// What it fails with; that it takes too long is [`Error::Unanswered`].
    pub async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let within = self.limits.statement_timeout + MARGIN;
        timeout(within, work).await.unwrap_or(Err(Error::Unanswered(within)))
    }

    /// Gives the connection back, if it can go on.
    pub fn give_back<T>(&mut self, connection: PgConnection, done: &Result<T, Error>) {
        if done.as_ref().err().is_none_or(Error::leaves_connection) {
            self.connection = Some((connection, Instant::now()));
        }
    }
}
