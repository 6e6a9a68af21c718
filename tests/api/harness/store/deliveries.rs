//! Deliveries and their attempts as they are stored.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use muster::domain::{AttemptRecord, DeliveryFilter, DeliveryId, DeliveryState, DeliverySummary};
use muster::repository::audit::AuditContext;
use muster::repository::{Pool, deliveries};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, PgExecutor};
use uuid::Uuid;

use super::{StoredApp, actor, connect, count, execute};
use crate::harness::{TestApp, wait_until};

/// The deliveries that match a filter, at most 100,000.
pub async fn list_deliveries(app: &TestApp, filter: &DeliveryFilter) -> Vec<DeliverySummary> {
    deliveries::list(&app.pool, filter, 100_000).await.unwrap()
}

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
    list_deliveries(app, &filter).await.len()
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

/// The current lease of a delivery.
pub async fn current_lease(app: &TestApp, id: &DeliveryId) -> Option<Uuid> {
    let sql = "select lease from delivery
               where session_id = $1 and app_id = $2 and version = $3";
    sqlx::query_scalar::<_, Option<Uuid>>(sql)
        .bind(id.session_id.uuid())
        .bind(id.app_id.as_str())
        .bind(id.version.get())
        .fetch_one(&app.pool)
        .await
        .unwrap()
}

/// The number of attempts of all deliveries.
pub async fn count_attempts(executor: impl PgExecutor<'_>) -> i64 {
    count(executor, "delivery_attempt").await
}

/// The number of rows of `delivery` that ended workers have read. PostgreSQL counts the rows of a
/// connection when the connection ends, so this function waits for that.
pub async fn delivery_rows_read(app: &TestApp) -> i64 {
    let workers = "select count(*) from pg_stat_activity where datname = current_database()
                   and query similar to '%(with capacity|into delivery_attempt)%'
                   and query not like '%pg_stat_activity%'";
    wait_until("the end of the workers' connections", async || {
        sqlx::query_scalar::<_, i64>(workers).fetch_one(&app.pool).await.unwrap() == 0
    })
    .await;
    let sql = "select (coalesce(idx_tup_fetch, 0) + seq_tup_read)::bigint
               from pg_stat_user_tables where relname = 'delivery'";
    sqlx::query_scalar(sql).fetch_one(&app.pool).await.unwrap()
}

/// Writes the first versions of this many sessions, each with a delivery to an app that is due at
/// the time of the test clock.
pub async fn insert_due_deliveries(app: &TestApp, stored: &StoredApp, count: i64) {
    let sql = "with event as (
                   insert into session_event (session_id, buin, version, kind, operator, app_id,
                                              title, owner, changes, created_at)
                   select md5(number::text)::uuid, $1, 1, 'created', 'a', $2, 't', 'a',
                          '{\"title\": \"t\", \"owner\": \"a\", \"member\": [\"a\"]}', now()
                   from generate_series(1, $3) as number
                   returning session_id
               )
               insert into delivery (session_id, buin, app_id, version, state, due_at, attempts,
                                     tries, created_at)
               select session_id, $1, $2, 1, 'pending', $4, 0, 0, $4 from event";
    let insert = sqlx::query(sql).bind(stored.app.buin.get()).bind(stored.app.app_id.as_str());
    let insert = insert.bind(count).bind(app.clock.now());
    insert.execute(&app.pool).await.unwrap();
}

/// Writes a pending delivery for each of this many sessions. They are due at the time of the
/// database, long after that of the test clock.
pub async fn insert_later_deliveries(app: &TestApp, stored: &StoredApp, count: i64) {
    let sql = "insert into delivery (session_id, buin, app_id, version, state, due_at, attempts,
                                     tries, created_at)
               select md5(number::text)::uuid, $1, $2, 1, 'pending', now(), 1, 1, now()
               from generate_series(1, $3) as number";
    let insert = sqlx::query(sql).bind(stored.app.buin.get()).bind(stored.app.app_id.as_str());
    insert.bind(count).execute(&app.pool).await.unwrap();
}

/// Writes delivered deliveries of a session to an app, for the versions from 2 to `last`.
pub async fn insert_delivered_versions(
    app: &TestApp,
    stored: &StoredApp,
    session_id: &str,
    last: i64,
) {
    let sql = "insert into delivery (session_id, buin, app_id, version, state, due_at, attempts,
                                     tries, created_at, finished_at)
               select $1::uuid, $2, $3, version, 'delivered', now(), 1, 1, now(), now()
               from generate_series(2, $4) as version";
    let insert = sqlx::query(sql).bind(session_id).bind(stored.app.buin.get());
    let insert = insert.bind(stored.app.app_id.as_str()).bind(last);
    insert.execute(&app.pool).await.unwrap();
}

/// Writes this many failed deliveries to an app.
pub async fn insert_failed_deliveries(
    executor: impl PgExecutor<'_>,
    buin: i64,
    app_id: &str,
    count: i64,
) {
    let sql = "insert into delivery (session_id, buin, app_id, version, state, due_at, attempts,
                                     tries, created_at, finished_at)
               select gen_random_uuid(), $1, $2, 1, 'failed', now(), 1, 1, now(), now()
               from generate_series(1, $3)";
    sqlx::query(sql).bind(buin).bind(app_id).bind(count).execute(executor).await.unwrap();
}

/// Writes this many deliveries with three attempts each, half of them delivered and half of them
/// failed. They ended in intervals of one second from the time of the test clock on.
pub async fn insert_ended_deliveries(app: &TestApp, count: i64) {
    let sql = "with ended as (
                   insert into delivery (session_id, buin, app_id, version, state, due_at,
                       attempts, tries, created_at, finished_at)
                   select md5(number::text)::uuid, 1, 'x', 1,
                          case when number % 2 = 0 then 'delivered' else 'failed' end,
                          $1, 1, 1, $1, $1 + number * interval '1 second'
                   from generate_series(1, $2) as number
                   returning *
               )
               insert into delivery_attempt (session_id, app_id, version, attempt, started_at,
                   duration_ms)
               select session_id, app_id, version, attempt, $1, 1
               from ended, generate_series(1, 3) as attempt";
    sqlx::query(sql).bind(app.clock.now()).bind(count).execute(&app.pool).await.unwrap();
}

/// Gives the newest version of all sessions this number, in the sessions and in their events.
pub async fn renumber_versions(app: &TestApp, version: i64) {
    for table in ["session", "session_event"] {
        let sql = format!("update {table} set version = {version}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&app.pool).await.unwrap();
    }
}

/// Keeps PostgreSQL from collecting statistics of the deliveries by itself.
pub async fn disable_delivery_statistics(app: &TestApp) {
    execute(&app.pool, "alter table delivery set (autovacuum_enabled = false)").await;
}

/// Collects the statistics of the deliveries.
pub async fn analyze_deliveries(app: &TestApp) {
    execute(&mut connect(app).await, "vacuum analyze delivery").await;
}

/// Blocks changes of all deliveries until the transaction ends.
pub async fn lock_deliveries(app: &TestApp) -> PgConnection {
    let mut connection = connect(app).await;
    execute(&mut connection, "begin; select from delivery for update").await;
    connection
}
