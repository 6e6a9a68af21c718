//! Finds out whether writes end.
//!
//! A primary whose synchronous standby is gone answers every read, but no commit returns. So the
//! probe writes: a message of some bytes into the log of PostgreSQL, which changes no table.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::repository::Error;
use crate::repository::Pool;

/// The pause between the end of a probe and the next one.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// A probe without an answer is given up after this time, because its connection may be lost.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes into the log of PostgreSQL, and into no table.
const WRITE: &str = "select pg_logical_emit_message(true, 'muster', '')";

/// Tries a write from time to time, but never two at once.
#[derive(Clone)]
pub struct WriteProbe {
    pool: Pool,
    state: Arc<Mutex<ProbeState>>,
}

#[derive(Default)]
struct ProbeState {
    is_running: bool,
    /// The start of the first write that has not ended, if the last one has not ended.
    waiting_started_at: Option<Instant>,
    ended_at: Option<Instant>,
}

impl WriteProbe {
    /// A probe of the database behind `pool`.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool, state: Arc::default() }
    }

    /// The time for which no write has ended; zero if the last one has. Begins the next write, and
    /// does not wait for its end.
    #[must_use]
    pub fn waiting_time(&self) -> Duration {
        let mut state = self.lock();
        let is_due = state.ended_at.is_none_or(|ended_at| ended_at.elapsed() >= PROBE_INTERVAL);
        if is_due && !state.is_running {
            state.is_running = true;
            state.waiting_started_at.get_or_insert_with(Instant::now);
            tokio::spawn(self.clone().run());
        }
        state.waiting_started_at.map_or(Duration::ZERO, |started_at| started_at.elapsed())
    }

    async fn run(self) {
        let written = write(&self.pool, PROBE_TIMEOUT).await;
        let mut state = self.lock();
        state.is_running = false;
        // A server that cannot be reached is no server that makes writes wait.
        if !matches!(written, Err(Error::OutcomeUnknown(_))) {
            (state.waiting_started_at, state.ended_at) = (None, Some(Instant::now()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, ProbeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes once, on a connection of its own.
///
/// # Errors
/// [`Error::OutcomeUnknown`] if the write has not ended after `limit`, or the database fails.
pub async fn write(pool: &Pool, limit: Duration) -> Result<(), Error> {
    let connector = pool.connector();
    let connecting = connector.connect(Instant::now() + limit);
    let mut connection = connecting.await.map_err(Error::Unavailable)?;
    connection.begin_statement();
    let writing = async {
        connection.begin().await?;
        sqlx::raw_sql(WRITE).execute(&mut *connection).await?;
        connection.end().await
    };
    let written = tokio::select! {
        written = tokio::time::timeout(limit, writing) => {
            written.map_err(|_| Error::OutcomeUnknown(limit))
        }
        // The answer of a former primary means nothing.
        () = connector.generation_end() => Ok(Err(sqlx::Error::PoolClosed)),
    };
    // The connection is closed here, and a write that waits is canceled.
    let written = written?;
    if !matches!(written, Err(sqlx::Error::PoolClosed)) {
        connection.end_statement();
    }
    written.map_err(Error::from)
}
