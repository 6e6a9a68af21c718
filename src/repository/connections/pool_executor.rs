//! The pool as the executor of single statements, in the place of a connection.
//!
//! The surprise: rows are returned only after all of them have been read, which every statement here
//! needs anyway.

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _};
use sqlx::postgres::{PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Error, Execute, Executor, Postgres, SqlStr};

use super::connection_pool::Pool;
use super::statement::{PreparedStatement, Step};

impl<'p> Executor<'p> for &Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let run = async move { pool.run(PreparedStatement::new(query)?).await };
        run.map_ok(|all| stream::iter(all.into_iter().map(Ok))).try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let run = async move {
            let steps = pool.run(PreparedStatement::new(query)?).await?;
            Ok(steps.into_iter().find_map(Either::right))
        };
        run.boxed()
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
        let prepare = async move {
            let mut connection = pool.acquire().await?;
            let result = pool.with_timeout(connection.prepare_with(sql, parameters)).await;
            connection.put_back_after(&result);
            result
        };
        prepare.boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        let describe = async move {
            let mut connection = pool.acquire().await?;
            let result = pool.with_timeout(connection.describe(sql)).await;
            connection.put_back_after(&result);
            result
        };
        describe.boxed()
    }
}
