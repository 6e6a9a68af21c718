//! A connection to the database that Muster uses.

use std::path::Path;

use anyhow::Context as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tokio::runtime::Runtime;

/// The connection, and the runtime of its futures.
pub struct Database {
    /// Runs on the calling thread.
    pub runtime: Runtime,
    /// The connection.
    pub connection: PgConnection,
    /// The first process of the server.
    pub process: u32,
}

impl Database {
    /// Connects to the server with its files and its socket in `directory`.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub fn connect(directory: &Path) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let options = PgConnectOptions::new_without_pgpass()
            .socket(directory)
            // The role of the service may not write a checkpoint.
            .username("postgres")
            .database("muster");
        let connection = runtime
            .block_on(PgConnection::connect_with(&options))
            .with_context(|| format!("no database in {}", directory.display()))?;
        let mut database = Self { runtime, connection, process: 0 };
        let own = database.number("select pg_backend_pid()::bigint")?;
        let stat = std::fs::read_to_string(format!("/proc/{own}/stat"))?;
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        database.process = parent.context("no parent of the database's process")?;
        Ok(database)
    }

    /// Runs statements without results.
    ///
    /// # Errors
    /// If a statement fails.
    pub fn run(&mut self, sql: &str) -> anyhow::Result<()> {
        self.runtime.block_on(self.connection.execute(AssertSqlSafe(sql.to_owned())))?;
        Ok(())
    }

    /// The single number that a query returns.
    ///
    /// # Errors
    /// If the query fails or returns no number.
    pub fn number(&mut self, sql: &str) -> anyhow::Result<i64> {
        let query = self.connection.fetch_one(AssertSqlSafe(sql.to_owned()));
        Ok(self.runtime.block_on(query)?.try_get(0)?)
    }

    /// The single text that a query returns.
    ///
    /// # Errors
    /// If the query fails or returns no text.
    pub fn text(&mut self, sql: &str) -> anyhow::Result<String> {
        let query = self.connection.fetch_one(AssertSqlSafe(sql.to_owned()));
        Ok(self.runtime.block_on(query)?.try_get(0)?)
    }
}
