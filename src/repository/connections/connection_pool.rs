//! A pool of connections whose permits cannot be lost.
//!
//! Each connection is owned together with its permit, a permit of a semaphore. The permit is free as
//! soon as the connection is dropped, for any reason and without any I/O. A connection goes
//! back to the pool only if its state is known.
//!
//! The surprise: a statement runs in a task of its own, so a caller that is dropped neither
//! interrupts it nor leaves a half-read connection behind.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Error, Executor as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::connector::Connector;
use super::database_servers::DatabaseServers;
use super::pool_limits::{PoolLimits, TIMEOUT_MARGIN};
use super::pooled_work;
use super::server_connection::ServerConnection;
use super::statement::{PreparedStatement, Step};
use crate::metrics::AcquireStats;
use crate::repository::error::{ends_connection, is_read_only_refusal};

/// A pool of connections. A clone shares the same pool.
#[derive(Clone)]
pub struct Pool(pub(super) Arc<PoolInner>);

pub(super) struct PoolInner {
    pub(super) connector: Connector,
    pub(super) limits: PoolLimits,
    pub(super) permits: Arc<Semaphore>,
    /// The last one was used last.
    pub(super) idle: Mutex<Vec<ServerConnection>>,
    /// The pool of direct connections, if a pooler is between and the configuration names PostgreSQL.
    pub(super) direct: Option<Pool>,
    pub(super) wait_stats: Arc<AcquireStats>,
}

/// A connection of the pool. It is closed when it is dropped.
pub struct PoolConnection {
    connection: ServerConnection,
    pool: Pool,
    permit: OwnedSemaphorePermit,
}

/// A transaction on a connection of the pool. If it is dropped before its commit, its connection is
/// closed, and PostgreSQL rolls it back.
pub struct PoolTransaction(PoolConnection);

impl Pool {
    /// A pool that connects when it is first used.
    #[must_use]
    pub fn new(servers: DatabaseServers, limits: PoolLimits) -> Self {
        Self::with_direct(servers, None, limits)
    }

    /// The same, with a pool of connections that no pooler shares.
    pub(super) fn with_direct(
        servers: DatabaseServers,
        direct: Option<Self>,
        limits: PoolLimits,
    ) -> Self {
        let permits = usize::try_from(limits.max_connections).unwrap_or(usize::MAX);
        Self(Arc::new(PoolInner {
            connector: Connector::new(servers),
            limits,
            permits: Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS))),
            idle: Mutex::default(),
            direct,
            wait_stats: Arc::default(),
        }))
    }

    /// Opens all connections to the database.
    pub(in crate::repository) fn connector(&self) -> &Connector {
        &self.0.connector
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
        self.with_timeout(async {
            match connection.connection.is_pooled() {
                true => connection.connection.begin().await,
                false => (&mut *connection).execute("begin").await.map(drop),
            }
        })
        .await?;
        Ok(PoolTransaction(connection))
    }

    /// Closes the connections that are not in use, and refuses new users. Connections in use are
    /// closed when they are dropped.
    pub async fn close(&self) {
        self.0.permits.close();
        let idle = std::mem::take(&mut *self.lock_idle());
        for connection in idle {
            // A silent server does not delay the stop of this process.
            let _ = timeout(TIMEOUT_MARGIN, connection.into_inner().close()).await;
        }
        if let Some(direct) = &self.0.direct {
            Box::pin(direct.close()).await;
        }
    }

    async fn open(&self, deadline: Instant) -> Result<PoolConnection, Error> {
        let permit = timeout_at(deadline, self.0.permits.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| Error::PoolTimedOut)?.map_err(|_| Error::PoolClosed)?;
        if let Some(mut connection) = self.pop_idle() {
            if is_alive(&mut connection).await {
                return Ok(PoolConnection { connection, pool: self.clone(), permit });
            }
            // The others were used earlier, so they are lost as well.
            self.lock_idle().clear();
        }
        let connection = self.0.connector.connect(deadline).await?;
        Ok(PoolConnection { connection, pool: self.clone(), permit })
    }

    /// The connection that was used last. Connections to a server that is not used any more are
    /// closed.
    fn pop_idle(&self) -> Option<ServerConnection> {
        let mut idle = self.lock_idle();
        idle.retain(|connection| self.0.connector.is_current(connection));
        idle.pop()
    }

    /// Keeps a connection for the next user.
    fn push_idle(&self, connection: ServerConnection) {
        if !self.0.permits.is_closed() {
            self.lock_idle().push(connection);
        }
    }

    pub(super) fn lock_idle(&self) -> MutexGuard<'_, Vec<ServerConnection>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a statement in a task of its own.
    pub(super) async fn run(&self, statement: PreparedStatement) -> Result<Vec<Step>, Error> {
        let mut connection = self.acquire().await?;
        let pool = self.clone();
        let task = tokio::spawn(async move {
            connection.connection.begin_statement();
            let server = &mut connection.connection;
            let result = match server.is_pooled() {
                true => pooled_work::run(statement, server, pool.statement_limit()).await,
                false => pool.with_timeout(statement.run(server)).await,
            };
            connection.put_back_after(&result);
            result
        });
        task.await.unwrap_or(Err(Error::WorkerCrashed))
    }

    /// A limit that is longer than PostgreSQL's own, and longer than the deadline of a request, whose
    /// error is more precise.
    fn statement_limit(&self) -> Duration {
        self.0.limits.statement_timeout + 2 * TIMEOUT_MARGIN
    }

    /// Runs `work` with the limit of a statement.
    pub(super) async fn with_timeout<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let limit = self.statement_limit();
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
        self.connection.into_inner()
    }

    /// Puts the connection back, or closes it if its state is unknown after `result`, or if its
    /// server does not write.
    pub(super) fn put_back_after<T>(self, result: &Result<T, Error>) {
        let Self { mut connection, pool, permit } = self;
        let is_known = match result {
            Ok(_) => true,
            Err(Error::Database(error)) => !ends_connection(&**error),
            Err(_) => false,
        };
        let is_known = is_known && !connection.is_in_transaction();
        let is_read_only = result.as_ref().err().is_some_and(is_read_only_refusal);
        if is_known {
            connection.end_statement();
        }
        if is_read_only {
            pool.connector().report_read_only(&connection);
        } else if is_known {
            pool.push_idle(connection);
        }
        // The permit is free only now, so the next user finds the connection.
        drop(permit);
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
        connection.connection.begin_statement();
        let result = pool
            .with_timeout(async {
                match connection.connection.is_pooled() {
                    true => connection.connection.end().await,
                    false => (&mut *connection).execute("commit").await.map(drop),
                }
            })
            .await;
        connection.put_back_after(&result);
        result
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

async fn is_alive(connection: &mut ServerConnection) -> bool {
    matches!(timeout(TIMEOUT_MARGIN, connection.ping()).await, Ok(Ok(())))
}
