//! A pool of connections whose places cannot be lost.
//!
//! Each connection is owned together with its place, a permit of a semaphore. The place is free as
//! soon as the connection is dropped, for any reason and without any I/O. A connection goes
//! back to the pool only if its state is known.
//!
//! The surprise: a statement runs in a task of its own, so a caller that is dropped neither
//! interrupts it nor leaves a half-read connection behind.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Error, Executor as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::ends_connection;
use super::outage::Outage;
use super::pool_limits::{PoolLimits, TIMEOUT_MARGIN};
use super::statement::{PreparedStatement, Step};
use crate::metrics::AcquireStats;

/// A pool of connections. A clone shares the same pool.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    options: Arc<PgConnectOptions>,
    limits: PoolLimits,
    places: Arc<Semaphore>,
    /// The last one was used last.
    idle: Mutex<Vec<PgConnection>>,
    wait_stats: Arc<AcquireStats>,
    outage: Arc<Outage>,
}

/// A connection of the pool. It is closed when it is dropped.
pub struct PoolConnection {
    connection: PgConnection,
    pool: Pool,
    place: OwnedSemaphorePermit,
}

/// A transaction on a connection of the pool. If it is dropped before its commit, its connection is
/// closed, and PostgreSQL rolls it back.
pub struct PoolTransaction(PoolConnection);

impl Pool {
    /// A pool that connects when it is first used.
    #[must_use]
    pub fn new(options: PgConnectOptions, limits: PoolLimits) -> Self {
        let places = usize::try_from(limits.max_connections).unwrap_or(usize::MAX);
        Self(Arc::new(Shared {
            options: Arc::new(options),
            limits,
            places: Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS))),
            idle: Mutex::default(),
            wait_stats: Arc::default(),
            outage: Arc::default(),
        }))
    }

    /// The options of its connections.
    #[must_use]
    pub fn connect_options(&self) -> Arc<PgConnectOptions> {
        self.0.options.clone()
    }

    /// The measured waits for connections.
    #[must_use]
    pub fn wait_stats(&self) -> Arc<AcquireStats> {
        self.0.wait_stats.clone()
    }

    /// The largest number of connections.
    #[must_use]
    pub fn max_connections(&self) -> u32 {
        self.0.limits.max_connections.max(1)
    }

    /// The number of connections that are in use or being opened.
    #[must_use]
    pub fn in_use(&self) -> usize {
        let max = usize::try_from(self.max_connections()).unwrap_or(usize::MAX);
        max.saturating_sub(self.0.places.available_permits())
    }

    /// The number of open connections that are not in use.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.lock_idle().len()
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// When no connection becomes free in time, or none can be opened.
    pub async fn acquire(&self) -> Result<PoolConnection, Error> {
        let deadline = Instant::now() + self.0.limits.acquire_timeout;
        self.0.wait_stats.measure(self.open(deadline)).await
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When no connection becomes free in time, or the database fails.
    pub async fn begin(&self) -> Result<PoolTransaction, Error> {
        let mut connection = self.acquire().await?;
        self.with_timeout((&mut *connection).execute("begin")).await?;
        Ok(PoolTransaction(connection))
    }

    /// Closes the connections that are not in use, and refuses new users. Connections in use are
    /// closed when they are dropped.
    pub async fn close(&self) {
        self.0.places.close();
        let idle = std::mem::take(&mut *self.lock_idle());
        for connection in idle {
            // A silent server does not delay the stop of this process.
            let _ = timeout(TIMEOUT_MARGIN, connection.close()).await;
        }
    }

    async fn open(&self, deadline: Instant) -> Result<PoolConnection, Error> {
        let place = timeout_at(deadline, self.0.places.clone().acquire_owned()).await;
        let place = place.map_err(|_| Error::PoolTimedOut)?.map_err(|_| Error::PoolClosed)?;
        let last_used = self.lock_idle().pop();
        if let Some(mut connection) = last_used {
            if is_alive(&mut connection).await {
                return Ok(PoolConnection { connection, pool: self.clone(), place });
            }
            // The others were used earlier, so they are lost as well.
            self.lock_idle().clear();
        }
        let connection = self.connect(deadline).await?;
        Ok(PoolConnection { connection, pool: self.clone(), place })
    }

    async fn connect(&self, deadline: Instant) -> Result<PgConnection, Error> {
        let started_at = Instant::now();
        let connecting = PgConnection::connect_with(&self.0.options);
        let connected = timeout_at(deadline, connecting).await;
        let connected = connected.unwrap_or(Err(Error::PoolTimedOut));
        self.0.outage.record(&connected, started_at);
        connected
    }

    /// Reports whether the database can be reached, for all its connections.
    pub(super) fn outage(&self) -> Arc<Outage> {
        self.0.outage.clone()
    }

    fn lock_idle(&self) -> MutexGuard<'_, Vec<PgConnection>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a statement in a task of its own.
    pub(super) async fn run(&self, statement: PreparedStatement) -> Result<Vec<Step>, Error> {
        let mut connection = self.acquire().await?;
        let pool = self.clone();
        let task = tokio::spawn(async move {
            let result = pool.with_timeout(statement.run(&mut connection)).await;
            connection.put_back_after(&result);
            result
        });
        task.await.unwrap_or(Err(Error::WorkerCrashed))
    }

    /// Runs `work` with a timeout that is longer than PostgreSQL's own, and longer than the deadline
    /// of a request, whose error is more precise.
    pub(super) async fn with_timeout<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let limit: Duration = self.0.limits.statement_timeout + 2 * TIMEOUT_MARGIN;
        let timed_out = |_| Err(Error::Io(std::io::ErrorKind::TimedOut.into()));
        timeout(limit, work).await.unwrap_or_else(timed_out)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl PoolConnection {
    /// Takes the connection out of the pool, which may open another one.
    #[must_use]
    pub fn detach(self) -> PgConnection {
        self.connection
    }

    /// Puts the connection back, or closes it if its state is unknown after `result`.
    pub(super) fn put_back_after<T>(self, result: &Result<T, Error>) {
        let is_known = match result {
            Ok(_) => true,
            Err(Error::Database(error)) => !ends_connection(&**error),
            Err(_) => false,
        };
        let Self { connection, pool, place } = self;
        if is_known && !pool.0.places.is_closed() {
            pool.lock_idle().push(connection);
        }
        // The place is free only now, so the next user finds the connection.
        drop(place);
    }
}

impl Deref for PoolConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for PoolConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl PoolTransaction {
    /// Commits the transaction.
    ///
    /// # Errors
    /// When the database fails. The outcome is unknown if the connection broke.
    pub async fn commit(self) -> Result<(), Error> {
        let Self(mut connection) = self;
        let pool = connection.pool.clone();
        let result = pool.with_timeout((&mut *connection).execute("commit")).await;
        connection.put_back_after(&result);
        result.map(drop)
    }
}

impl Deref for PoolTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for PoolTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

async fn is_alive(connection: &mut PgConnection) -> bool {
    matches!(timeout(TIMEOUT_MARGIN, connection.ping()).await, Ok(Ok(())))
}
