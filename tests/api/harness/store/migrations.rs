//! Migrations of a later release, which tests plant, and their traces in a database.

use std::str::FromStr as _;
use std::time::Duration;

use muster::repository::connections::pool::{self, PoolLimits};
use muster::repository::migrations::{self, Migration};
use sqlx::migrate::Migrate as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Executor as _, PgExecutor};

use super::{Pool, execute};

pub use muster::repository::migrations::{
    LockWaits, MigrationError, MigrationList, MigrationScope, SchemaStatus,
};

/// Waits that a test can watch.
pub const SHORT_WAITS: LockWaits = LockWaits {
    lock_timeout: Duration::from_millis(50),
    retry_interval: Duration::from_millis(20),
    max_retry_interval: Duration::from_millis(50),
    max_attempts: 10_000,
};

/// Migrates a database as a program that has these migrations.
pub async fn migrate(
    options: &PgConnectOptions,
    known: &MigrationList,
    scope: MigrationScope,
    waits: LockWaits,
) -> Result<Vec<i64>, MigrationError> {
    let pool = pool_of(options);
    let applied = migrations::run(&pool, known, scope, waits).await;
    pool.close().await;
    Ok(applied?.into_iter().map(|migration: Migration| migration.version).collect())
}

/// The same, for a database that a URL names.
pub async fn migrate_url(url: &str, known: &MigrationList) {
    let options = PgConnectOptions::from_str(url).unwrap();
    migrate(&options, known, MigrationScope::All, SHORT_WAITS).await.unwrap();
}

/// The schema of a database, for a program that has these migrations.
pub async fn schema_status(options: &PgConnectOptions, known: &MigrationList) -> SchemaStatus {
    let pool = pool_of(options);
    let status = migrations::status(&pool, known).await.unwrap();
    pool.close().await;
    status
}

fn pool_of(options: &PgConnectOptions) -> Pool {
    let limits = PoolLimits {
        max_connections: 1,
        acquire_timeout: Duration::from_secs(30),
        statement_timeout: Duration::from_secs(30),
    };
    pool::connect(options.clone(), limits)
}

/// Takes the lock of sqlx's own migrations, until the end of the connection.
pub async fn lock_migrations(connection: &mut PgConnection) {
    connection.lock().await.unwrap();
}

/// How far the record says that a migration has come: the number of its statements, and the position in the
/// next one. `None` if it has not begun.
pub async fn migration_progress(
    executor: impl PgExecutor<'_>,
    version: i64,
) -> Option<(i32, Option<String>)> {
    let sql =
        "select (to_jsonb(record) ->> 'statements_done')::int, to_jsonb(record) ->> 'position'
               from _sqlx_migrations as record where version = $1";
    sqlx::query_as(sql).bind(version).fetch_optional(executor).await.unwrap()
}

/// Whether a connection of the database runs or has run a statement with this text as its last one.
pub async fn has_statement(executor: impl PgExecutor<'_>, text: &str) -> bool {
    let sql = "select exists (select from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()
                 and query like '%' || $1 || '%')";
    sqlx::query_scalar(sql).bind(text).fetch_one(executor).await.unwrap()
}

/// Reads a table in a transaction that stays open, as a backup does.
pub async fn begin_reading(connection: &mut PgConnection, table: &str) {
    execute(&mut *connection, "begin").await;
    connection.execute(AssertSqlSafe(format!("select count(*) from {table}"))).await.unwrap();
}

/// The result of a query that returns one number.
pub async fn number(executor: impl PgExecutor<'_>, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(executor).await.unwrap()
}

/// Executes statements of a test.
pub async fn execute_all(executor: impl PgExecutor<'_>, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(executor).await.unwrap();
}
