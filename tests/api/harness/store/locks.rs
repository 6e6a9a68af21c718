//! Locks, running statements and connections.

use rustix::process::Pid;
use sqlx::postgres::PgConnection;

use super::{connect, execute};
use crate::harness::{TestApp, pooler, wait_until};

/// Blocks all access to sessions until the connection is dropped.
pub async fn lock_sessions(app: &TestApp) -> PgConnection {
    let mut connection = connect(app).await;
    execute(&mut connection, "begin; lock table session").await;
    connection
}

/// Blocks all reads of past versions until the connection is dropped.
pub async fn lock_snapshots(app: &TestApp) -> PgConnection {
    let mut connection = connect(app).await;
    execute(&mut connection, "begin; lock table session_snapshot").await;
    connection
}

/// Blocks all access to named consumers until the connection is dropped.
pub async fn lock_consumers(app: &TestApp) -> PgConnection {
    let mut connection = connect(app).await;
    execute(&mut connection, "begin; lock table consumer").await;
    connection
}

/// Blocks all access to apps and API keys until the connection is dropped.
pub async fn lock_credentials(app: &TestApp) -> PgConnection {
    let mut connection = connect(app).await;
    execute(&mut connection, "begin; lock table app, api_key").await;
    connection
}

/// Blocks changes of a session until the transaction ends.
pub async fn lock_session(mut connection: PgConnection, session_id: &str) -> PgConnection {
    execute(&mut connection, "begin").await;
    let sql = "select from session where session_id = $1::uuid for update";
    sqlx::query(sql).bind(session_id).execute(&mut connection).await.unwrap();
    connection
}

/// Blocks all access to all sessions within the transaction of another lock, until
/// [`unlock_all_sessions`].
pub async fn lock_all_sessions(connection: &mut PgConnection) {
    execute(connection, "savepoint held; lock table session").await;
}

/// Undoes [`lock_all_sessions`].
pub async fn unlock_all_sessions(connection: &mut PgConnection) {
    execute(connection, "rollback to savepoint held").await;
}

/// Completes the transaction of a connection.
pub async fn commit(connection: &mut PgConnection) {
    execute(connection, "commit").await;
}

/// Ends the transaction of a lock.
pub async fn unlock(connection: &mut PgConnection) {
    execute(connection, "rollback").await;
}

/// Waits until a statement in the database of a connection waits for a lock.
pub async fn wait_for_blocked_statement(connection: &mut PgConnection) {
    let sql = "select exists (select from pg_stat_activity
               where datname = current_database() and wait_event_type = 'Lock')";
    wait_until("a statement that waits for a lock", async || {
        sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut *connection).await.unwrap()
    })
    .await;
}

/// The statements of the service that run or wait.
pub async fn running_statements(app: &TestApp) -> Vec<String> {
    let sql = "select state || ': ' || query from pg_stat_activity
               where datname = current_database() and application_name = 'muster'
               and state <> 'idle'";
    sqlx::query_scalar(sql).fetch_all(&mut connect(app).await).await.unwrap()
}

/// The number of connections of the service.
pub async fn count_connections(connection: &mut PgConnection) -> usize {
    let sql = "select count(*) from pg_stat_activity
               where application_name in ('muster', 'muster listener')";
    let count: i64 = sqlx::query_scalar(sql).fetch_one(connection).await.unwrap();
    usize::try_from(count).unwrap()
}

/// The largest number of connections that PostgreSQL accepts.
pub async fn max_connections(connection: &mut PgConnection) -> usize {
    let sql = "select current_setting('max_connections')::int8";
    let limit: i64 = sqlx::query_scalar(sql).fetch_one(connection).await.unwrap();
    usize::try_from(limit).unwrap()
}

/// The process of PostgreSQL that serves a connection.
pub async fn process_id(connection: &mut PgConnection) -> Pid {
    let pid = sqlx::query_scalar("select pg_backend_pid()").fetch_one(connection).await.unwrap();
    Pid::from_raw(pid).unwrap()
}

/// Keeps the process of a connection computing for a minute, unless it ends before. It does not look
/// after its client or its postmaster.
pub async fn compute_long(connection: &mut PgConnection) {
    let sql = "set statement_timeout = '1min';
               select count(*) from (select generate_series(1, 1000000000000)) as numbers";
    let _ = sqlx::raw_sql(sql).execute(connection).await;
}

/// Waits until a database has no connection but this one, and returns the number of its deadlocks.
/// Each connection reports its own deadlocks when it ends. A pooler keeps its connections, so they are ended.
pub async fn count_deadlocks(connection: &mut PgConnection) -> i64 {
    let others = match pooler::is_of_run() {
        true => {
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()"
        }
        false => {
            "select count(*) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()"
        }
    };
    wait_until("the end of all other connections", async || {
        sqlx::query_scalar::<_, i64>(others).fetch_one(&mut *connection).await.unwrap() == 0
    })
    .await;
    let sql = "select deadlocks from pg_stat_database where datname = current_database()";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

/// The number of running statements of this form, in all databases, without this one.
pub async fn count_statements_like(connection: &mut PgConnection, pattern: &str) -> i64 {
    let sql = "select count(*) from pg_stat_activity
               where state = 'active' and query like $1 and pid <> pg_backend_pid()";
    sqlx::query_scalar(sql).bind(pattern).fetch_one(connection).await.unwrap()
}
