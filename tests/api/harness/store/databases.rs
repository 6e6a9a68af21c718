//! Databases of the tests' PostgreSQL, and the template that they are copies of.

use std::time::Duration;

use muster::config::Settings;
use muster::repository::audit::AuditContext;
use muster::repository::connections::pool::{self, DatabaseServers, PoolLimits};
use muster::repository::migrations::{self, LockWaits, MigrationList, MigrationScope};
use muster::repository::{Pool, key_rotation, table_rights};
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
    let (own, waits) = (MigrationList::own(), LockWaits::default());
    migrations::run(&pool, &own, MigrationScope::All, waits).await.unwrap();
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

/// Changes settings of a whole server that need no restart.
pub async fn change_settings(connection: &mut PgConnection, settings: &[(String, String)]) {
    for (name, value) in settings {
        execute(connection, format!("alter system set {name} = {value}")).await;
    }
    connection.execute("select pg_reload_conf()").await.unwrap();
}

/// Whether a server offers TLS.
pub async fn has_tls(server: &PgConnectOptions) -> bool {
    let sql = "select current_setting('ssl')::bool";
    sqlx::query_scalar(sql).fetch_one(&mut connect_with(server).await).await.unwrap()
}

/// The number of standbys for which the commits of a server wait.
pub async fn count_synchronous_standbys(connection: &mut PgConnection) -> i64 {
    let sql = "select count(*) from pg_stat_replication
               where state = 'streaming' and sync_state in ('sync', 'quorum')";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

/// Makes a standby the primary, and waits until it accepts writes.
pub async fn promote(connection: &mut PgConnection) {
    let promoted: bool =
        sqlx::query_scalar("select pg_promote()").fetch_one(&mut *connection).await.unwrap();
    assert!(promoted);
}

/// Whether new transactions of a server may not write.
pub async fn is_read_only(connection: &mut PgConnection) -> bool {
    let sql = "select current_setting('transaction_read_only')::bool";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

/// Makes a server read its files of settings and of admitted clients again.
pub async fn reload_server_settings(server: &PgConnectOptions) {
    connect_with(server).await.execute("select pg_reload_conf()").await.unwrap();
}

/// A pool with the limits of the service.
pub fn open_pool(options: PgConnectOptions, settings: &Settings) -> Pool {
    pool::connect(options, PoolLimits::from_settings(settings))
}

/// A pool through a pooler, with the limits of the service.
pub fn open_pooled(
    pooled: PgConnectOptions,
    direct: Option<PgConnectOptions>,
    settings: &Settings,
) -> Pool {
    let servers = DatabaseServers::from(pooled).behind_pooler(Vec::new());
    pool::connect_pooled(
        &servers,
        direct.map(DatabaseServers::from),
        PoolLimits::from_settings(settings),
    )
}

async fn execute(connection: &mut PgConnection, sql: String) {
    connection.execute(AssertSqlSafe(sql)).await.unwrap();
}

/// Applies the first migrations to a database without tables, or the next ones.
pub async fn migrate_to(options: &PgConnectOptions, count: i64) {
    let limits = PoolLimits {
        max_connections: 1,
        acquire_timeout: Duration::from_secs(30),
        statement_timeout: Duration::from_secs(30),
    };
    let pool = pool::connect(options.clone(), limits);
    let versions: Vec<i64> = (1..=count).collect();
    migrations::run_to(&pool, &versions).await.unwrap();
    pool.close().await;
}

/// The rights that a server needs, each with its table.
pub fn server_rights() -> Vec<(&'static str, &'static str)> {
    let (tables, rights) = table_rights::pairs();
    rights.into_iter().zip(tables).collect()
}

/// Grants a right on a table to a role.
pub async fn grant(connection: &mut PgConnection, right: &str, table: &str, role: &str) {
    execute(connection, format!("grant {right} on {table} to {role}")).await;
}

/// Takes a right on a table from a role.
pub async fn revoke(connection: &mut PgConnection, right: &str, table: &str, role: &str) {
    execute(connection, format!("revoke {right} on {table} from {role}")).await;
}

/// Creates a schema that has the name of the role, and so comes first in the search path.
pub async fn create_schema_of_role(connection: &mut PgConnection) {
    execute(connection, "create schema authorization current_user".to_owned()).await;
}

/// The schemas that have tables of Muster.
pub async fn schemas_with_tables(connection: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "select distinct schemaname::text from pg_tables
         where tablename in ('_sqlx_migrations', 'session', 'feed') order by 1",
    )
    .fetch_all(connection)
    .await
    .unwrap()
}

/// Copies a table without its rows into the schema that has the name of the role.
pub async fn hide_table(connection: &mut PgConnection, table: &str) {
    execute(connection, format!("create table {table} (like public.{table})")).await;
}

/// Turns row level security on or off, also for the owner of the table.
pub async fn set_row_security(connection: &mut PgConnection, table: &str, is_on: bool) {
    let (verb, force) = if is_on { ("enable", "force") } else { ("disable", "no force") };
    let alter =
        format!("alter table {table} {verb} row level security, {force} row level security");
    execute(connection, alter).await;
}

/// Gives a table another name.
pub async fn rename_table(connection: &mut PgConnection, from: &str, to: &str) {
    execute(connection, format!("alter table {from} rename to {to}")).await;
}

/// Drops the schema that has the name of the role.
pub async fn drop_schema_of_role(connection: &mut PgConnection) {
    connection
        .execute("do $$ begin execute format('drop schema %I cascade', current_user); end $$")
        .await
        .unwrap();
}
