//! A connection together with the server that it leads to.
//!
//! The surprise: dropping it while a statement runs cancels the statement, through another
//! connection.
//!
//! A connection through a pooler has a session of PostgreSQL only during a transaction. So each
//! statement runs in a transaction, whose first statement makes the settings and tells the process
//! that runs it. Two more round trips are the price. A direct connection does none of this.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Error, Executor as _, Row as _};

use super::given_up::{Backend, Canceler};

/// A connection to one of the servers of a database.
pub struct ServerConnection {
    // Dropped first, so that its statement is canceled only after it was closed.
    connection: PgConnection,
    server_generation: u64,
    pooled: Option<PooledSession>,
    statement: RunningStatement,
}

/// The state of a connection through a pooler.
pub(super) struct PooledSession {
    /// The index of the server.
    pub(super) server: usize,
    /// The statement that begins a transaction with its settings.
    pub(super) begin: Arc<str>,
    pub(super) is_in_transaction: bool,
    /// The time at which PostgreSQL started, and whether it has started again since it was asked.
    pub(super) started_at: Option<String>,
    pub(super) is_restarted: bool,
}

/// The statement that runs on a connection, if any.
struct RunningStatement {
    backend: Option<Backend>,
    canceler: Canceler,
    is_running: bool,
}

impl ServerConnection {
    /// A connection that was opened in a server generation. Without a `backend`, its statements are not
    /// canceled, except in a transaction of a `pooled` connection.
    pub(super) fn new(
        connection: PgConnection,
        server_generation: u64,
        backend: Option<Backend>,
        pooled: Option<PooledSession>,
        canceler: Canceler,
    ) -> Self {
        let statement = RunningStatement { backend, canceler, is_running: false };
        Self { connection, server_generation, pooled, statement }
    }

    /// Whether a pooler is between.
    pub(super) fn is_pooled(&self) -> bool {
        self.pooled.is_some()
    }

    /// Whether a transaction of a connection through a pooler runs.
    pub fn is_in_transaction(&self) -> bool {
        self.pooled.as_ref().is_some_and(|pooled| pooled.is_in_transaction)
    }

    /// Whether another PostgreSQL, or the same one after a restart, has answered since the last call.
    pub(super) fn take_restart(&mut self) -> bool {
        self.pooled.as_mut().is_some_and(|pooled| std::mem::take(&mut pooled.is_restarted))
    }

    /// Begins the transaction of a connection through a pooler. Does nothing on a direct one.
    ///
    /// # Errors
    /// No transaction has begun, so nothing was executed.
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        let Some(pooled) = &mut self.pooled else { return Ok(()) };
        // The state is unknown until the answer is read.
        pooled.is_in_transaction = true;
        let begin = sqlx::raw_sql(AssertSqlSafe(pooled.begin.to_string()));
        // All rows are read, so that the connection is ready for the next statement.
        let rows = self.connection.fetch_all(begin).await.map_err(not_executed)?;
        let row = rows.first().ok_or(Error::RowNotFound).map_err(not_executed)?;
        let (process_id, begun_at) = (row.try_get(0)?, row.try_get(1)?);
        let started_at: Option<String> = row.try_get(2)?;
        let before = std::mem::replace(&mut pooled.started_at, started_at);
        pooled.is_restarted |= before.is_some() && before != pooled.started_at;
        self.statement.backend =
            Some(Backend { server: pooled.server, process_id, started_at: begun_at });
        Ok(())
    }

    /// Ends the transaction of a connection through a pooler: commits it, or rolls it back if a
    /// statement has failed. Does nothing on a direct connection.
    ///
    /// # Errors
    /// The outcome is unknown, unless the error is one of PostgreSQL.
    pub(super) async fn end(&mut self) -> Result<(), Error> {
        if self.is_in_transaction() {
            self.connection.execute("commit").await?;
            self.statement.backend = None;
            if let Some(pooled) = &mut self.pooled {
                pooled.is_in_transaction = false;
            }
        }
        Ok(())
    }

    /// Forgets the prepared statements of the connection, and those of PostgreSQL that the pooler
    /// keeps for all clients of the session of this transaction.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn forget_statements(&mut self) -> Result<(), Error> {
        sqlx::Connection::clear_cached_statements(&mut self.connection).await?;
        if self.is_in_transaction() {
            sqlx::raw_sql("deallocate all").execute(&mut self.connection).await?;
        }
        Ok(())
    }

    /// The server generation in which it was opened.
    pub(super) fn server_generation(&self) -> u64 {
        self.server_generation
    }

    /// Marks that a statement may run from now on.
    pub fn begin_statement(&mut self) {
        self.statement.is_running = true;
    }

    /// Marks that the statement has ended.
    pub(super) fn end_statement(&mut self) {
        self.statement.is_running = false;
    }

    /// The connection alone.
    pub(super) fn into_inner(self) -> PgConnection {
        self.connection
    }
}

/// The error of a transaction that has not begun.
fn not_executed(error: Error) -> Error {
    Error::Io(io::Error::new(io::ErrorKind::ConnectionRefused, error))
}

impl Deref for ServerConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for ServerConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for RunningStatement {
    fn drop(&mut self) {
        if self.is_running
            && let Some(backend) = self.backend.take()
        {
            self.canceler.submit(backend);
        }
    }
}
