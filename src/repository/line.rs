//! A connection that one task owns.
//!
//! What many requests share (see [`crate::service`]) runs on one of these: the pool asks the server
//! whether a connection still lives before it hands it out and when it gets it back, which costs
//! two of three round trips. This one asks only after a pause, and is thrown away when anything but
//! a statement fails on it.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, PgPool};
use tokio::time::{Instant, timeout, timeout_at};

use super::Error;
use super::pool::Limits;

/// After a pause of this length it is asked whether the connection still lives.
const PAUSE: Duration = Duration::from_secs(1);
/// How much longer than a statement may take its answer may take. Who does not answer by then is
/// not there any more, and nothing else would say so.
const MARGIN: Duration = Duration::from_secs(1);

/// A connection that is made when it is needed, and made again when it was lost.
pub struct Line {
    options: PgConnectOptions,
    limits: Limits,
    connection: Option<(PgConnection, Instant)>,
}

impl Line {
    /// To the database of `pool`.
    #[must_use]
    pub fn new(pool: &PgPool, limits: Limits) -> Self {
        let options = pool.connect_options().as_ref().clone();
        // The statements take arrays of any length: a plan that looks at what is in them is no
        // better, and making it takes longer than running it.
        let options = options.options([("plan_cache_mode", "force_generic_plan")]);
        Self { options, limits, connection: None }
    }

    /// Takes the connection by then, to give it back with what became of the work on it. Should that never
    /// happen, because a future was dropped half-way, the connection is gone, as it must be.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is none to be had: nothing was done.
    pub async fn take(&mut self, by: Instant) -> Result<PgConnection, Error> {
        let now = Instant::now();
        if by <= now {
            return Err(Error::Unavailable(sqlx::Error::PoolTimedOut));
        }
        if let Some((mut connection, used)) = self.connection.take()
            && (now.duration_since(used) < PAUSE
                || matches!(timeout(MARGIN, connection.ping()).await, Ok(Ok(()))))
        {
            return Ok(connection);
        }
        let connecting = PgConnection::connect_with(&self.options);
        match timeout_at(by.min(now + self.limits.acquire_timeout), connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            // Whatever it is, nothing was done.
            Ok(Err(error)) => Err(Error::Unavailable(error)),
            Err(_) => Err(Error::Unavailable(sqlx::Error::PoolTimedOut)),
        }
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
