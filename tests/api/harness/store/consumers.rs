//! Named consumers: the time of their leases and of their use.

use sqlx::{AssertSqlSafe, PgExecutor};

use super::{PgConnection, connect, execute};
use crate::harness::TestApp;

/// Ends the leases of all members, or of one.
pub async fn end_leases(app: &TestApp, member: Option<&str>) {
    let sql = "update consumer_event set lease_until = clock_timestamp() - interval '1 second'
               where lease_until is not null and ($1::text is null or member = $1)";
    sqlx::query(sql).bind(member).execute(&app.pool).await.unwrap();
}

/// Lets the last use of all consumers be long ago.
pub async fn age_consumers(app: &TestApp) {
    execute(&app.pool, "update consumer set used_at = '2000-01-01'").await;
}

/// The numbers of consumers, of positions and of events.
pub async fn count_consumer_rows(executor: impl PgExecutor<'_>) -> (i64, i64, i64) {
    let sql = "select (select count(*) from consumer), (select count(*) from consumer_position),
                      (select count(*) from consumer_event)
                          + (select count(*) from consumer_held_event)";
    sqlx::query_as(sql).fetch_one(executor).await.unwrap()
}

/// The tables of events in the hands of members or held back, and their positions.
const TABLES: [&str; 3] = ["consumer_event", "consumer_held_event", "consumer_position"];

/// The statistics of the tables of consumers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConsumerStatistics {
    /// None. Plans were made while the tables had no page.
    Missing,
    /// Those of empty tables, as after many rows had been deleted.
    OfEmptyTables,
    /// The present ones.
    Fresh,
}

/// Lets the planner know nothing about the tables of consumers, or that they are empty. Empty tables keep the
/// pages of this number of consumers and of events of each that are held back.
pub async fn begin_statistics(
    app: &TestApp,
    statistics: ConsumerStatistics,
    consumers: i64,
    held_back: i64,
) {
    for table in TABLES {
        let sql = format!("alter table {table} set (autovacuum_enabled = false)");
        sqlx::query(AssertSqlSafe(sql)).execute(&app.pool).await.unwrap();
    }
    if statistics == ConsumerStatistics::OfEmptyTables {
        fill_consumers(app, consumers, held_back).await;
        let mut connection = connect(app).await;
        for table in &TABLES[..2] {
            for sql in [format!("delete from {table}"), format!("vacuum analyze {table}")] {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            }
        }
    }
}

/// Lets the planner know the tables of consumers as they are, if it is to.
pub async fn end_statistics(app: &TestApp, statistics: ConsumerStatistics) {
    if statistics == ConsumerStatistics::Fresh {
        let mut connection = connect(app).await;
        for table in TABLES {
            let sql = format!("vacuum analyze {table}");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
    }
}

/// Gives consumers that do not exist events: those that members have, and those that are held back.
pub async fn fill_consumers(app: &TestApp, consumers: i64, held_back: i64) {
    let sql = "with id as (select gen_random_uuid() as consumer_id from generate_series(1, $1)),
               held as (
                   insert into consumer_held_event (
                       consumer_id, session_id, seq, version, prev_seq, bytes, attempts, parked_at
                   )
                   select consumer_id, gen_random_uuid(), number, 1, 0, 0, 10, now()
                   from generate_series(1, $2) as number cross join id
               )
               insert into consumer_event (consumer_id, session_id, seq, version, prev_seq, bytes)
               select consumer_id, gen_random_uuid(), number, 1, 0, 0
               from generate_series(1, 1000) as number cross join id";
    sqlx::query(sql).bind(consumers).bind(held_back).execute(&app.pool).await.unwrap();
}

/// Parks this number of events that do not exist, of all consumers. No other event has their numbers.
pub async fn hold_back_events(app: &TestApp, count: i64) {
    hold_back(app, None, count).await;
}

/// Parks an event that does not exist, of a session.
pub async fn hold_back_session(app: &TestApp, session_id: &str) {
    hold_back(app, Some(session_id), 1).await;
}

async fn hold_back(app: &TestApp, session_id: Option<&str>, count: i64) {
    let sql = "with held as (
                   insert into consumer_held_event (
                       consumer_id, seq, prev_seq, session_id, version, bytes, attempts, parked_at
                   )
                   select consumer_id, 1000000 + held_back + number, 0,
                          coalesce($2::uuid, gen_random_uuid()), 1, 0, 10, now()
                   from consumer_position, generate_series(1, $1) as number
               )
               update consumer_position set held_back = held_back + $1";
    sqlx::query(sql).bind(count).bind(session_id).execute(&app.pool).await.unwrap();
}

/// Begins a transaction that has released all events, as the service does.
pub async fn begin_release(app: &TestApp) -> PgConnection {
    let mut connection = connect(app).await;
    let sql = "begin;
               select from consumer for update;
               with removed as (delete from consumer_held_event returning *),
               new_event as (
                   insert into consumer_event (
                       consumer_id, session_id, seq, version, prev_seq, bytes
                   )
                   select consumer_id, session_id, seq, version, prev_seq, bytes from removed
               )
               update consumer_position
               set held_back = 0, ready_after = (select min(seq) - 1 from removed)";
    execute(&mut connection, sql).await;
    connection
}

/// The consumers whose number of events that are held back is not the one that is kept.
pub async fn count_miscounted_consumers(app: &TestApp) -> i64 {
    let sql = "select count(*) from consumer_position
               where held_back <> (
                   select count(*) from consumer_held_event
                   where consumer_held_event.consumer_id = consumer_position.consumer_id
               )";
    sqlx::query_scalar(sql).fetch_one(&app.pool).await.unwrap()
}

/// The number of rows of the tables of consumers that have been read. The connection of the pool, which has
/// only one, reports the rows that it has read.
pub async fn consumer_rows_read(app: &TestApp) -> i64 {
    sqlx::query("select pg_stat_force_next_flush()").execute(&app.pool).await.unwrap();
    let sql = "select (select sum(coalesce(idx_tup_read, 0)) from pg_stat_user_indexes
                       where relname = any($1))::bigint
                      + (select sum(seq_tup_read) from pg_stat_user_tables
                         where relname = any($1))::bigint";
    sqlx::query_scalar(sql).bind(&TABLES[..]).fetch_one(&app.pool).await.unwrap()
}

/// Begins another line of history.
pub async fn renew_epoch(app: &TestApp) {
    execute(&app.pool, "update feed_state set epoch = gen_random_uuid()").await;
}
