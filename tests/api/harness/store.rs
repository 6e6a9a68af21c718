//! Access of the tests to storage: apps, keys, rows and locks that no API writes or shows.
//!
//! Tests whose subject is storage use repositories and SQL themselves. All other tests use this
//! module, so a change of the tables or of `muster::repository` changes one file here.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use muster::config::KeyText;
use muster::domain::{
    AllowedForms, App, AppId, DeliveryId, DeliveryState, Permission, Permissions,
};
use muster::keyring::Keyring;
use muster::repository::audit::{Actor, AuditContext};
use muster::repository::{Pool, apps, deliveries, keys};
use muster::wire::{AesKey, ApiKey, MasterKey};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgExecutor};

pub use muster::repository::apps::StoredApp;
pub use muster::repository::deliveries::{AttemptRecord, DeliveryFilter, DeliverySummary};

use super::server::Database;
use super::{TestApp, test_start_time, wait_until};

// Apps and keys.

/// An app that is not stored yet.
pub fn new_app(buin: i64, permissions: &[Permission]) -> StoredApp {
    StoredApp {
        app: App {
            buin: buin.to_string().parse().unwrap(),
            app_id: AppId::generate(),
            name: "test".to_owned(),
            permissions: permissions.iter().copied().collect::<Permissions>(),
            forms: AllowedForms::Both,
            callback: None,
            callbacks_paused: false,
            disabled: false,
        },
        aes_key: AesKey::generate(),
    }
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

pub fn keyring() -> Arc<Keyring> {
    let key = KeyText::parse(MASTER_KEY).unwrap();
    Arc::new(Keyring::new(Some(MasterKey::new(*key.bytes())), None, None))
}

// Deliveries.

/// A delivery.
pub async fn find_delivery(app: &TestApp, id: &DeliveryId) -> DeliverySummary {
    deliveries::find(&app.pool, id).await.unwrap().unwrap()
}

/// The attempts of a delivery.
pub async fn delivery_attempts(app: &TestApp, id: &DeliveryId) -> Vec<AttemptRecord> {
    deliveries::attempts(&app.pool, id).await.unwrap()
}

/// The number of deliveries in a state.
pub async fn count_in_state(app: &TestApp, state: DeliveryState) -> usize {
    let filter = DeliveryFilter { state: Some(state), ..DeliveryFilter::default() };
    deliveries::list(&app.pool, &filter, 100_000).await.unwrap().len()
}

/// Makes deliveries due again.
pub async fn replay(pool: &Pool, filter: &DeliveryFilter, now: DateTime<Utc>) -> u64 {
    let actor = actor();
    deliveries::replay(pool, filter, AuditContext { actor: &actor, at: now }).await.unwrap()
}

/// The apps that have deliveries: their enterprises and ids.
pub async fn delivery_apps(app: &TestApp) -> BTreeSet<(i64, String)> {
    let sql = "select distinct buin, app_id from delivery";
    let apps = sqlx::query_as(sql).fetch_all(&app.pool).await.unwrap();
    apps.into_iter().collect()
}

/// For each delivery: the transaction that wrote it, and whether the same transaction wrote its
/// event.
pub async fn delivery_transactions(app: &TestApp) -> Vec<(String, bool)> {
    let sql = "select delivery.xmin::text, session_event.xmin::text = delivery.xmin::text
               from session_event join delivery using (session_id, version)";
    sqlx::query_as(sql).fetch_all(&app.pool).await.unwrap()
}

/// Marks the deliveries of the youngest session as failed.
pub async fn fail_youngest_deliveries(app: &TestApp) {
    let sql = "update delivery set state = 'failed', finished_at = created_at \
               where session_id = (select max(session_id::text)::uuid from delivery)";
    execute(&app.pool, sql).await;
}

/// Deletes all deliveries.
pub async fn delete_deliveries(app: &TestApp) {
    execute(&app.pool, "delete from delivery").await;
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

// Sessions, as they are stored.

/// The version of the only session.
pub async fn stored_version(app: &TestApp) -> i64 {
    sqlx::query_scalar("select version from session").fetch_one(&app.pool).await.unwrap()
}

/// The stored bytes of a session's owner.
pub async fn stored_owner(app: &TestApp, session_id: &str) -> Vec<u8> {
    let sql = "select convert_to(owner, 'UTF8') from session where session_id = $1::uuid";
    sqlx::query_scalar(sql).bind(session_id).fetch_one(&app.pool).await.unwrap()
}

/// The versions of a session with their changes, the oldest first.
pub async fn stored_changes(
    executor: impl PgExecutor<'_>,
    session_id: &str,
) -> Vec<(i64, sqlx::types::Json<Value>)> {
    let sql = "select version, changes from session_event where session_id = $1::uuid \
               order by version";
    sqlx::query_as(sql).bind(session_id).fetch_all(executor).await.unwrap()
}

/// The titles of sessions so far: the id as the API shows it, the version and the title, ordered by
/// session and version. Only titles of `t` and a number count.
pub async fn numbered_titles(connection: &mut PgConnection) -> Vec<(String, i64, String)> {
    let sql = "select '{' || upper(session_id::text) || '}', version, title from session_event
               where title ~ '^t[1-9]' order by session_id, version";
    sqlx::query_as(sql).fetch_all(connection).await.unwrap()
}

/// The sessions with such a title now: id, version, title and number of members.
pub async fn numbered_sessions(connection: &mut PgConnection) -> Vec<(String, i64, String, i64)> {
    let sql = "select '{' || upper(session_id::text) || '}', version, title,
                      (select count(*) from session_member as member
                       where member.session_id = session.session_id)
               from session where title ~ '^t[1-9]'";
    sqlx::query_as(sql).fetch_all(connection).await.unwrap()
}

/// The sessions whose row, history and members do not match.
pub async fn torn_sessions(connection: &mut PgConnection) -> Vec<String> {
    let sql = "select session_id::text from session
               full join (
                   select session_id, count(*) as events, max(version) as newest
                   from session_event group by session_id
               ) as event using (session_id)
               where (version, version) is distinct from (events, newest)
                  or member_count is distinct from (
                      select count(*) from session_member
                      where session_member.session_id = session.session_id
                  )";
    sqlx::query_scalar(sql).fetch_all(connection).await.unwrap()
}

/// The collations of the columns by which rows are looked up.
pub async fn key_collations(app: &TestApp) -> Vec<String> {
    let sql = "select distinct relname || '.' || attname || ' ' || collname
               from pg_attribute
               join pg_class on pg_class.oid = attrelid
               join pg_collation on pg_collation.oid = attcollation
               where relkind = 'r' and (relname, attname) in (
                   ('session', 'owner'), ('session_member', 'account'), ('idempotency', 'key')
               )
               order by 1";
    sqlx::query_scalar(sql).fetch_all(&app.pool).await.unwrap()
}

// Changes that the service does not see.

/// Changes the title and the version of all sessions without an event.
pub async fn overwrite_sessions(app: &TestApp, title: &str) {
    let sql = "update session set version = version + 1, title = $1 || version";
    sqlx::query(sql).bind(title).execute(&app.pool).await.unwrap();
}

/// Gives a session a title and its next version without an event.
pub async fn overwrite_session(app: &TestApp, session_id: &str, title: &str) {
    let sql = "update session set title = $2, version = version + 1 where session_id = $1::uuid";
    sqlx::query(sql).bind(session_id).bind(title).execute(&mut connect(app).await).await.unwrap();
}

/// Gives a session a title that is too long to be read.
pub async fn spoil_title(app: &TestApp, session_id: &str) {
    let sql = "update session set title = repeat('x', 1000) where session_id = $1::uuid";
    sqlx::query(sql).bind(session_id).execute(&mut connect(app).await).await.unwrap();
}

/// Gives all sessions a title that the service never stores.
pub async fn spoil_titles(app: &TestApp) {
    execute(&app.pool, "update session set title = chr(7)").await;
}

/// Removes the column of titles.
pub async fn rename_title_column(app: &TestApp) {
    execute(&app.pool, "alter table session rename column title to headline").await;
}

/// Removes the table of events.
pub async fn hide_events(app: &TestApp) {
    execute(&app.pool, "alter table session_event rename to secret_event").await;
}

/// Restores the table of events.
pub async fn show_events(app: &TestApp) {
    execute(&app.pool, "alter table secret_event rename to session_event").await;
}

/// Removes the column by which caches follow the changes of other servers.
pub async fn break_feed(app: &TestApp) {
    execute(&app.pool, "alter table session_event rename column xid to was_xid").await;
}

/// Dissolves all sessions.
pub async fn dissolve_sessions(app: &TestApp) {
    execute(&app.pool, "update session set state = 'dissolved'").await;
}

/// Makes every statement that creates sessions this much slower.
pub async fn slow_down_creates(app: &TestApp, seconds: f64) {
    let sql = format!(
        "create function slow() returns trigger language plpgsql as
         $$ begin perform pg_sleep({seconds}); return new; end $$;
         create trigger slow before insert on session for each statement execute function slow()"
    );
    connect(app).await.execute(AssertSqlSafe(sql)).await.unwrap();
}

/// Undoes [`slow_down_creates`].
pub async fn speed_up_creates(app: &TestApp) {
    execute(&mut connect(app).await, "drop trigger slow on session").await;
}

/// Makes statements read the rows of sessions one by one, as in large tables, and hold each for a
/// while.
pub async fn slow_down_updates(connection: &mut PgConnection) {
    const SQL: &str = r"
        do $$ begin
            execute format('alter database %I set enable_seqscan = off', current_database());
            execute format('alter database %I set enable_hashjoin = off', current_database());
            execute format('alter database %I set enable_mergejoin = off', current_database());
        end $$;
        create function slowly() returns trigger language plpgsql as $$ begin
            perform pg_sleep(0.002);
            return new;
        end $$;
        create trigger slowly before update on session for each row execute function slowly();
    ";
    execute(connection, SQL).await;
}

// Locks and statements.

/// Blocks all access to sessions until the connection is dropped.
pub async fn lock_sessions(app: &TestApp) -> PgConnection {
    let mut connection = connect(app).await;
    execute(&mut connection, "begin; lock table session").await;
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

/// Blocks all access to sessions beside a present lock, until [`unlock_others`].
pub async fn lock_others(connection: &mut PgConnection) {
    execute(connection, "savepoint held; lock table session").await;
}

/// Undoes [`lock_others`].
pub async fn unlock_others(connection: &mut PgConnection) {
    execute(connection, "rollback to savepoint held").await;
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
               where application_name in ('muster', 'muster follower')";
    let count: i64 = sqlx::query_scalar(sql).fetch_one(connection).await.unwrap();
    usize::try_from(count).unwrap()
}

/// Waits until a database has no connection but this one, and returns the number of its deadlocks.
/// Each connection reports its own deadlocks when it ends.
pub async fn count_deadlocks(connection: &mut PgConnection) -> i64 {
    let others = "select count(*) from pg_stat_activity
                  where datname = current_database() and pid <> pg_backend_pid()";
    wait_until("the end of all other connections", async || {
        sqlx::query_scalar::<_, i64>(others).fetch_one(&mut *connection).await.unwrap() == 0
    })
    .await;
    let sql = "select deadlocks from pg_stat_database where datname = current_database()";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
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

/// Makes PostgreSQL begin a new file of its write-ahead log, if it can.
pub async fn try_switch_wal(connection: &mut PgConnection) {
    let _ = sqlx::raw_sql("select pg_switch_wal()").execute(connection).await;
}

async fn execute(executor: impl PgExecutor<'_>, sql: &'static str) {
    sqlx::raw_sql(sql).execute(executor).await.unwrap();
}
