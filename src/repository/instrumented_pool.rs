//! A pool that measures the wait for a connection, and limits the wait for a response.
//!
//! sqlx does not report the duration of an acquire. This type wraps the pool of sqlx and can be
//! used in its place as the executor of a statement. The surprise: it returns rows only after all
//! of them have been read, which every statement here needs anyway.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Error, Execute, Executor, Postgres, SqlStr, Transaction};

use crate::metrics::AcquireStats;

/// The pool of sqlx with measurements. A clone shares the same pool.
#[derive(Clone, Debug)]
pub struct Pool {
    pool: sqlx::PgPool,
    wait_stats: Arc<AcquireStats>,
    timeout: Duration,
}

impl Pool {
    /// Wraps `pool`. A statement fails if no response arrives within `timeout`, which is longer
    /// than PostgreSQL's own limit for statements.
    #[must_use]
    pub fn new(pool: sqlx::PgPool, timeout: Duration) -> Self {
        Self { pool, wait_stats: Arc::default(), timeout }
    }

    /// Runs `work` with a timeout.
    async fn with_timeout<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let timed_out = |_| Err(Error::Io(std::io::ErrorKind::TimedOut.into()));
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(timed_out)
    }

    /// The measured waits for connections.
    #[must_use]
    pub fn wait_stats(&self) -> Arc<AcquireStats> {
        self.wait_stats.clone()
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// When no connection becomes free in time.
    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, Error> {
        self.wait_stats.measure(self.pool.acquire()).await
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When no connection becomes free in time, or the database fails.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, Error> {
        self.wait_stats.measure(self.pool.begin()).await
    }
}

/// Gives access to the pool's size and options, and to its closing.
impl Deref for Pool {
    type Target = sqlx::PgPool;

    fn deref(&self) -> &sqlx::PgPool {
        &self.pool
    }
}

impl<'p> Executor<'p> for &Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let read = async move {
            let mut connection = pool.acquire().await?;
            pool.with_timeout(connection.fetch_many(query).try_collect::<Vec<_>>()).await
        };
        read.map_ok(|all| stream::iter(all.into_iter().map(Ok))).try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let read = async move {
            let mut connection = pool.acquire().await?;
            pool.with_timeout(connection.fetch_optional(query)).await
        };
        read.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        async move { pool.acquire().await?.prepare_with(sql, parameters).await }.boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        async move { pool.acquire().await?.describe(sql).await }.boxed()
    }
}
