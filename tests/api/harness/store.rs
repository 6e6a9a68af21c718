//! Access of the tests to storage: apps, keys, rows and locks that no API writes or shows.
//!
//! Tests whose subject is storage use repositories and SQL themselves. All other tests use this
//! module, so a change of the tables or of `muster::repository` changes one place here.
//! `architecture/storage.rs` lists the exempt tests.

mod audit;
mod consumers;
mod databases;
mod deliveries;
mod feed;
mod histories;
mod locks;
mod migrations;
mod sessions;
mod titles;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use muster::config::KeyText;
use muster::domain::{Actor, AllowedForms, App, AppId, Permission, Permissions};
use muster::keyring::Keyring;
use muster::repository::audit::AuditContext;
use muster::repository::connections::dedicated_connection::DedicatedConnection;
use muster::repository::connections::pool::PoolLimits;
use muster::repository::{apps, keys};
use muster::wire::{AesKey, ApiKey, MasterKey};
use sqlx::postgres::PgSslMode;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgExecutor};

pub use self::audit::{
    audit_actions, audit_change_errors, insert_audit_entry, insert_old_audit_entries,
    refuse_audit_entries, tamper_with_audit,
};
pub use self::consumers::{
    ConsumerStatistics, age_consumers, begin_release, begin_statistics, consumer_rows_read,
    count_consumer_rows, count_miscounted_consumers, end_leases, end_statistics, fill_consumers,
    hold_back_events, hold_back_session, renew_epoch,
};
pub use self::databases::{
    change_settings, copy_database, count_synchronous_standbys, create_encoded_database,
    create_owned_database, create_schema_of_role, create_template, drop_all_databases,
    drop_database_by_name, drop_role, drop_schema_of_role, grant, has_tls, hide_table,
    is_read_only, migrate_to, open_pool, open_pooled, promote, reload_server_settings,
    rename_table, revoke, schemas_with_tables, server_rights, set_read_only, set_row_security,
};
pub use self::deliveries::{
    analyze_deliveries, count_attempts, count_in_state, current_lease, delete_deliveries,
    delivery_apps, delivery_attempts, delivery_rows_read, delivery_transactions,
    disable_delivery_statistics, fail_youngest_deliveries, find_delivery,
    insert_delivered_versions, insert_due_deliveries, insert_ended_deliveries,
    insert_failed_deliveries, insert_later_deliveries, list_deliveries, lock_deliveries,
    renumber_versions, replay,
};
pub use self::feed::{
    FeedChange, FeedRow, append_changes, append_changes_of_kind, begin_another_epoch, break_feed,
    columns_of_one_cluster, count_waiting, deleted_outbox_rows, end_all_backends, end_backend,
    epoch, feed_end, feed_rows, feed_rows_read, for_each_change, generic_plan, hide_role_changes,
    hold_snapshot, is_feed_truncated, lock_feed, outbox_scans, sequencer, session_versions,
    set_numbered_times, strand_change, switch_off_feed, unlisted_role_changes, vacuum_outbox,
};
pub use self::histories::{
    StoredHistory, delete_event, refuse_snapshots, set_attributes, snapshots,
};
pub use self::locks::{
    commit, compute_long, count_connections, count_deadlocks, count_statements_like,
    lock_all_sessions, lock_consumers, lock_credentials, lock_session, lock_sessions,
    lock_snapshots, max_connections, process_id, running_statements, unlock, unlock_all_sessions,
    wait_for_blocked_statement,
};
pub use self::migrations::{
    LockWaits, MigrationError, MigrationList, MigrationScope, SHORT_WAITS, SchemaStatus,
    begin_reading, execute_all, has_statement, lock_migrations, migrate, migrate_url,
    migration_progress, number, schema_status,
};
pub use self::sessions::{
    begin_late_update, change_index_pages_read, dissolve_sessions, inconsistent_sessions,
    insert_many_sessions, key_collations, numbered_sessions, numbered_titles, overwrite_session,
    overwrite_sessions, rename_event_table, rename_title_column, restore_event_table,
    set_invalid_titles, set_member_count, set_oversized_title, slow_down_creates,
    slow_down_key_inserts, slow_down_updates, speed_up_creates, stored_changes, stored_owner,
    stored_version,
};
pub use self::titles::{
    add_earlier_title_index, drop_earlier_title_index, insert_foreign_titles,
    insert_sessions_of_two_ages, title_grams, title_rows_read, vacuum_titles,
};
pub use muster::domain::{AttemptRecord, DeliveryFilter, DeliverySummary};
pub use muster::repository::Pool;
pub use muster::repository::apps::StoredApp;
pub use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::server::Database;
use super::{TestApp, test_start_time};

// Apps and keys.

/// An app that is not stored yet.
pub fn new_app(buin: i64, permissions: &[Permission]) -> StoredApp {
    StoredApp::new(
        App {
            buin: buin.to_string().parse().unwrap(),
            app_id: AppId::generate(),
            name: "test".to_owned(),
            permissions: permissions.iter().copied().collect::<Permissions>(),
            forms: AllowedForms::Both,
            callback: None,
            callbacks_paused: false,
            disabled: false,
        },
        AesKey::generate(),
    )
}

/// Stores an app and returns an API key of it.
pub async fn register(pool: &Pool, stored: &StoredApp) -> String {
    insert(pool, stored).await;
    insert_key(pool, stored.app.buin.get(), stored.app.app_id.as_str()).await
}

/// Stores an app.
pub async fn insert(pool: &Pool, stored: &StoredApp) {
    let actor = actor();
    let act = AuditContext { actor: &actor, at: test_start_time() };
    apps::insert(pool, &keyring(), stored, act).await.unwrap();
}

/// Stores a new API key of an app and returns its text.
pub async fn insert_key(pool: &Pool, buin: i64, app_id: &str) -> String {
    let key = ApiKey::generate();
    let (buin, app_id) = (buin.to_string().parse().unwrap(), app_id.parse().unwrap());
    let actor = actor();
    let act = AuditContext { actor: &actor, at: test_start_time() };
    keys::insert(pool, &key.hash(), buin, &app_id, "test", act).await.unwrap();
    key.reveal().to_owned()
}

/// Revokes an API key.
pub async fn revoke_key(pool: &Pool, key: &str) {
    let hash = ApiKey::parse(key).unwrap().hash();
    let stored = keys::list(pool).await.unwrap();
    let stored = stored.iter().find(|stored| stored.hash == hash).unwrap();
    let actor = actor();
    let act = AuditContext { actor: &actor, at: test_start_time() };
    assert!(keys::revoke(pool, stored, act).await.unwrap());
}

/// Lets an API key expire.
pub async fn expire_key(pool: &Pool, key: &str, at: DateTime<Utc>) {
    let hash = ApiKey::parse(key).unwrap().hash();
    sqlx::query("update api_key set expires_at = $2 where hash = $1")
        .bind(&hash[..])
        .bind(at)
        .execute(pool)
        .await
        .unwrap();
}

/// Changes an app.
pub async fn change(
    app: &TestApp,
    stored: &StoredApp,
    change: impl FnOnce(&mut StoredApp),
) -> StoredApp {
    let App { buin, app_id, .. } = &stored.app;
    let actor = actor();
    let act = AuditContext { actor: &actor, at: app.clock.now() };
    apps::update_with(&app.pool, &keyring(), *buin, app_id, act, change).await.unwrap()
}

/// The number of apps with a second AES key.
pub async fn count_previous_keys(pool: &Pool) -> i64 {
    let sql = "select count(*) from app where previous_aes_key is not null";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// Deletes the previous AES keys that have ended, as each server does from time to time.
pub async fn forget_previous_keys(pool: &Pool, now: DateTime<Utc>) {
    apps::forget_previous_keys(pool, now).await.unwrap();
}

/// The number of rows about an app, without those of the audit.
pub async fn count_rows_of_app(connection: &mut PgConnection, app_id: &str) -> i64 {
    let sql = "select (select count(*) from app where app_id = $1)
                    + (select count(*) from api_key where app_id = $1)
                    + (select count(*) from delivery where app_id = $1)
                    + (select count(*) from delivery_attempt where app_id = $1)
                    + (select count(*) from idempotency where app_id = $1)";
    sqlx::query_scalar(sql).bind(app_id).fetch_one(connection).await.unwrap()
}

/// Disables all apps that get callbacks.
pub async fn disable_subscribers(app: &TestApp) {
    execute(&app.pool, "update app set disabled_at = now() where callback_url is not null").await;
}

/// Pauses the callbacks of all apps.
pub async fn pause_callbacks(app: &TestApp) {
    execute(&app.pool, "update app set callbacks_paused_at = now()").await;
}

/// Deletes all API keys.
pub async fn delete_keys(connection: &mut PgConnection) {
    execute(connection, "delete from api_key").await;
}

/// Deletes all apps and their API keys.
pub async fn delete_apps(connection: &mut PgConnection) {
    delete_keys(connection).await;
    execute(connection, "delete from app").await;
}

/// The actor of changes that tests make without a command.
pub fn actor() -> Actor {
    Actor { user: "test".to_owned(), sudo_user: None, host: "here".to_owned(), pid: 1 }
}

/// The master key of every database that the tests create.
pub const MASTER_KEY: &str = "5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed";

/// The keyring of the service in the test process.
pub fn keyring() -> Arc<Keyring> {
    let key = KeyText::parse(MASTER_KEY).unwrap();
    Arc::new(Keyring::new(Some(MasterKey::new(*key.bytes())), None, None))
}

// Numbers of rows.

/// The number of sessions.
pub async fn count_sessions(executor: impl PgExecutor<'_>) -> i64 {
    count(executor, "session").await
}

/// The number of changes of all sessions.
pub async fn count_events(executor: impl PgExecutor<'_>) -> i64 {
    count(executor, "session_event").await
}

/// The number of deliveries.
pub async fn count_deliveries(executor: impl PgExecutor<'_>) -> i64 {
    count(executor, "delivery").await
}

/// The number of idempotency keys.
pub async fn count_idempotency_keys(executor: impl PgExecutor<'_>) -> i64 {
    count(executor, "idempotency").await
}

/// The number of changes of all sessions after their creation, by their versions.
pub async fn count_updates(executor: impl PgExecutor<'_>) -> i64 {
    let sql = "select coalesce(sum(version - 1), 0)::bigint from session";
    sqlx::query_scalar(sql).fetch_one(executor).await.unwrap()
}

async fn count(executor: impl PgExecutor<'_>, table: &str) -> i64 {
    let sql = format!("select count(*) from {table}");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(executor).await.unwrap()
}

// The database.

/// A connection for the test.
pub async fn connect(app: &TestApp) -> PgConnection {
    connect_to(&app.database).await
}

/// A connection to a database.
pub async fn connect_to(database: &Database) -> PgConnection {
    connect_with(&database.options.clone().application_name("outside")).await
}

/// A connection with these options.
pub async fn connect_with(options: &PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(options).await.unwrap()
}

/// A connection with these options, or `None` if the server accepts none.
pub async fn try_connect(options: &PgConnectOptions) -> Option<PgConnection> {
    PgConnection::connect_with(options).await.ok()
}

/// Ends a connection. Fails if the server has ended it already.
pub async fn close(connection: PgConnection) -> Result<(), sqlx::Error> {
    connection.close().await
}

/// The same options without a log line for each statement.
pub fn without_statement_log(options: PgConnectOptions) -> PgConnectOptions {
    options.log_statements(log::LevelFilter::Off)
}

/// The same options without TLS.
pub fn without_tls(options: PgConnectOptions) -> PgConnectOptions {
    options.ssl_mode(PgSslMode::Disable)
}

/// The options as a URL for the settings of a service.
pub fn url(options: &PgConnectOptions) -> String {
    options.to_url_lossy().to_string()
}

/// Drops the database of a running service.
pub async fn drop_database(app: &TestApp) {
    let mut connection = connect_with(&app.database.options.clone().database("postgres")).await;
    let sql = format!("drop database {} with (force)", app.database.name);
    connection.execute(AssertSqlSafe(sql)).await.unwrap();
}

/// A fault in the record of migrations.
#[derive(Clone, Copy, Debug)]
pub enum MigrationFault {
    /// The second migration was never applied.
    OneMissing,
    /// The record is empty.
    AllMissing,
    /// There is no record.
    NoTable,
    /// Migration 9000 of a later program was applied.
    Newer,
    /// The second migration did not finish.
    Unfinished,
    /// The second migration is not the one of this program.
    Altered,
}

/// Damages the record of migrations.
pub async fn damage_migrations(executor: impl PgExecutor<'_>, fault: MigrationFault) {
    let sql = match fault {
        MigrationFault::OneMissing => "delete from _sqlx_migrations where version = 2",
        MigrationFault::AllMissing => "delete from _sqlx_migrations",
        MigrationFault::NoTable => "drop table _sqlx_migrations",
        MigrationFault::Newer => {
            "insert into _sqlx_migrations
                 (version, description, installed_on, success, checksum, execution_time)
             values (9000, 'from the future', now(), true, '', 0)"
        }
        MigrationFault::Unfinished => {
            "update _sqlx_migrations set success = false where version = 2"
        }
        MigrationFault::Altered => {
            "update _sqlx_migrations set checksum = '\\x00' where version = 2"
        }
    };
    execute(executor, sql).await;
}

/// Keeps a copy of the record of migrations.
pub async fn save_migrations(executor: impl PgExecutor<'_>) {
    execute(executor, "create table kept as select * from _sqlx_migrations").await;
}

/// Restores the saved record of migrations.
pub async fn restore_migrations(executor: impl PgExecutor<'_>) {
    let sql = "drop table if exists _sqlx_migrations;
               create table _sqlx_migrations as select * from kept";
    execute(executor, sql).await;
}

/// Records the migrations as they were before their comments were rewritten, and the last one as
/// pending.
pub async fn set_earlier_migrations(executor: impl PgExecutor<'_>) {
    let sql = "update _sqlx_migrations set checksum = decode(hex, 'hex')
               from (values
                   (1, '30f9586524a5c154869240ecc62c6fbb21ff3e4dae342a245af350e58ad32cb7'
                       '0a9112d1e4700c15b529b985736381f4'),
                   (2, '4dd5e6c714e8b3570a8d19ea93d23c93068114c1bb0f969a1aae0e108635ec1a'
                       '674bad5f3fee863020482603d3e9ed3d'),
                   (3, 'a8edd8918f7ec9b20ea1e02fe2cb94c79501f5514dec6d7762b56f2628b4b173'
                       '9d4cb315526ad27fd61a8ce91e4a1e84'),
                   (4, '71a954c641e9685ea0ca1d7cb4bdc372dd1e33e7f3deb924a123b31f397cf97d'
                       '257c93388f4179789a7fe9853ddac622'),
                   (5, '0f8bfa1a01f64c76d75f5c62ad586a38ac33954ca81e3ef2972f6a1a03c0f800'
                       'd5c8820f0b86a2622418e2c94d5c17bb'),
                   (6, '740d84a6c87c0775843529b5d296ec6230b4b2b6c28e26559c5154e10e62b5e5'
                       'd6d695f84e860212e0d2f5b9047fb32d'),
                   (8, '02b2d94b7b0609b2b0d04f57002c307333a97b5f7afef9c1318513ce38df09a2'
                       'e701dabc3e8f9c20461fa02774ec5197'),
                   (10, 'b76638880956143d9e2fea9bff913aef6e2d2d71f74b43b3ca4a5626a9458fe5'
                        '063ebc9612cc0424cd3f32ff2e64b6a4')
               ) as earlier (number, hex)
               where version = number;
               delete from _sqlx_migrations where version = 7";
    execute(executor, sql).await;
}

/// Makes PostgreSQL begin a new file of its write-ahead log, if it can.
pub async fn try_switch_wal(connection: &mut PgConnection) {
    let _ = sqlx::raw_sql("select pg_switch_wal()").execute(connection).await;
}

async fn execute(executor: impl PgExecutor<'_>, sql: &'static str) {
    sqlx::raw_sql(sql).execute(executor).await.unwrap();
}

// The pool.

/// The simplest statement.
pub async fn select_one(pool: &Pool) -> Result<(), sqlx::Error> {
    sqlx::query("select 1").execute(pool).await.map(drop)
}

/// The simplest statement, on a connection of the test.
pub async fn select_one_on(connection: &mut PgConnection) {
    execute(connection, "select 1").await;
}

/// A statement without a time limit of PostgreSQL, which takes an hour.
pub async fn compute_without_limit(pool: &Pool) -> Result<(), sqlx::Error> {
    let sql = "set local statement_timeout = 0; select pg_sleep(3600)";
    sqlx::raw_sql(sql).execute(pool).await.map(drop)
}

/// The values of these settings, in the order of their names.
pub async fn values_of_settings(
    executor: impl PgExecutor<'_>,
    names: &[&str],
) -> Vec<(String, String)> {
    let sql = "select name, current_setting(name) from unnest($1::text[]) as name order by name";
    sqlx::query_as(sql).bind(names).fetch_all(executor).await.unwrap()
}

/// The values of the settings of the connection for callbacks.
pub async fn values_for_callbacks(pool: &Pool) -> Vec<(String, String)> {
    const NAMES: [&str; 6] = [
        "enable_hashjoin",
        "enable_mergejoin",
        "enable_seqscan",
        "plan_cache_mode",
        "statement_timeout",
        "synchronous_commit",
    ];
    let limits = PoolLimits::from_settings(&super::settings());
    let metrics = Arc::default();
    let mut dedicated = DedicatedConnection::for_callbacks(pool, limits, metrics);
    let deadline = tokio::time::Instant::now() + super::process::WAIT_TIMEOUT;
    let connection = dedicated.acquire(deadline).await.unwrap();
    let reading = dedicated.run(connection, |mut connection| async move {
        let values = values_of_settings(&mut *connection, &NAMES).await;
        (connection, Ok(values))
    });
    reading.await.unwrap()
}

/// Changes a setting of the role of the tests, in this database only.
pub async fn set_of_role(database: &Database, name: &str, value: &str) {
    let sql = format!(
        "do $$ begin
             execute format('alter role %I in database %I set {name} = %L',
                            current_user, current_database(), '{value}');
         end $$"
    );
    connect_to(database).await.execute(AssertSqlSafe(sql)).await.unwrap();
}

/// A statement that waits for [`lock_apps`].
pub async fn count_apps(pool: &Pool) -> i64 {
    sqlx::query_scalar("select count(*) from app").fetch_one(pool).await.unwrap()
}

/// Begins a transaction.
pub async fn begin(connection: &mut PgConnection) {
    execute(connection, "begin").await;
}

/// Locks a table until the end of the transaction.
pub async fn lock_apps(connection: &mut PgConnection) {
    connection.execute("lock table app in access exclusive mode").await.unwrap();
}

/// Locks a table if no other transaction has locked it.
pub async fn try_lock_apps(connection: &mut PgConnection) -> bool {
    connection.execute("lock table app in access exclusive mode nowait").await.is_ok()
}

/// Changes the type of a text column, so that the result types of its statements change.
pub async fn alter_text_column(app: &TestApp, table: &str, column: &str, to: &str) {
    let sql = format!("alter table {table} alter column {column} type {to}");
    connect(app).await.execute(AssertSqlSafe(sql)).await.unwrap();
}
