//! Databases of the tests' PostgreSQL, and the template that they are copies of.

use std::time::Duration;

use muster::cli::pool_limits;
use muster::config::Settings;
use muster::repository::audit::AuditContext;
use muster::repository::pool::{self, PoolLimits};
use muster::repository::{Pool, key_rotation, migrations};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Executor as _};

use super::{actor, connect_with, keyring};
use crate::harness::test_start_time;

/// Creates a database with all tables.
pub async fn create_template(server: &PgConnectOptions, name: &str) {
    let sql = format!("create database {name}");
    execute(&mut connect_with(server).await, sql).await;
    let limits = PoolLimits {
        max_connections: 1,
        acquire_timeout: Duration::from_secs(30),
        statement_timeout: Duration::from_secs(30),
    };
    let pool = pool::connect(server.clone().database(name), limits);
    migrations::run(&pool).await.unwrap();
    let actor = actor();
    let act = AuditContext { actor: &actor, at: test_start_time() };
    key_rotation::seal_legacy_secrets(&pool, &keyring(), act).await.unwrap();
    pool.close().await;
}

/// Creates a copy of a database.
pub async fn copy_database(server: &PgConnectOptions, template: &str, name: &str) {
    let sql = format!("create database {name} template {template}");
    execute(&mut connect_with(server).await, sql).await;
}

/// Creates a database without tables in another encoding.
pub async fn create_encoded_database(server: &PgConnectOptions, name: &str, encoding: &str) {
    let sql = format!(
        "create database {name} encoding '{encoding}' lc_collate 'C' lc_ctype 'C' \
         template template0"
    );
    execute(&mut connect_with(server).await, sql).await;
}

/// Creates a database without tables, and a role of the same name that owns it.
pub async fn create_owned_database(server: &PgConnectOptions, name: &str, password: &str) {
    let mut connection = connect_with(server).await;
    execute(&mut connection, format!("create role {name} login password '{password}'")).await;
    execute(&mut connection, format!("create database {name} owner {name}")).await;
}

/// Drops a database, if it exists.
pub async fn drop_database_by_name(server: &PgConnectOptions, name: &str) {
    let sql = format!("drop database if exists {name} with (force)");
    execute(&mut connect_with(server).await, sql).await;
}

/// Drops a role, if it exists.
pub async fn drop_role(server: &PgConnectOptions, name: &str) {
    let sql = format!("drop role if exists {name}");
    execute(&mut connect_with(server).await, sql).await;
}

/// Drops all databases whose names begin with `prefix`, and the roles of the same names.
pub async fn drop_all_databases(server: &PgConnectOptions, prefix: &str) {
    let mut connection = connect_with(server).await;
    let sql = "select datname from pg_database where starts_with(datname, $1)";
    let names: Vec<String> =
        sqlx::query_scalar(sql).bind(prefix).fetch_all(&mut connection).await.unwrap();
    for name in names {
        drop_database_by_name(server, &name).await;
        drop_role(server, &name).await;
    }
}

/// Makes all databases of a server read-only (`on`) or not (`off`).
pub async fn set_read_only(connection: &mut PgConnection, setting: &str) {
    let sql = format!("alter system set default_transaction_read_only = {setting}");
    connection.execute("set default_transaction_read_only = off").await.unwrap();
    execute(connection, sql).await;
    connection.execute("select pg_reload_conf()").await.unwrap();
}

/// Makes a server read its files of settings and of admitted clients again.
pub async fn reload_server_settings(server: &PgConnectOptions) {
    connect_with(server).await.execute("select pg_reload_conf()").await.unwrap();
}

/// A pool with the limits of the service.
pub fn open_pool(options: PgConnectOptions, settings: &Settings) -> Pool {
    pool::connect(options, pool_limits(settings))
}

async fn execute(connection: &mut PgConnection, sql: String) {
    connection.execute(AssertSqlSafe(sql)).await.unwrap();
}
