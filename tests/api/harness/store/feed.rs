//! The feed: its rows, the server that numbers changes, and faults of both.

use chrono::DateTime;
use futures_util::TryStreamExt as _;
use muster::repository::Pool;
use muster::repository::feed::{FeedPosition, changes_since, renew_epoch};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _, FromRow, PgConnection, PgExecutor};

use super::{connect, connect_to, execute};
use crate::harness::server::Database;
use crate::harness::{BUIN, TestApp};

/// A numbered change.
#[derive(Clone, Debug, FromRow, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedRow {
    pub position: i64,
    pub buin: i64,
    pub seq: i64,
    pub session_id: String,
    pub version: i64,
}

/// All numbered changes, in order.
pub async fn feed_rows(executor: impl PgExecutor<'_>) -> Vec<FeedRow> {
    let sql = "select position, buin, seq, session_id::text, version from feed order by position";
    sqlx::query_as(sql).fetch_all(executor).await.unwrap()
}

/// A numbered change with its content, of a history without changes of attributes.
#[derive(Clone, Debug, FromRow)]
pub struct FeedChange {
    pub seq: i64,
    /// The id as the API shows it.
    pub session_id: String,
    pub version: i64,
    pub kind: String,
    pub app_id: String,
    pub changes: Value,
}

/// Passes all numbered changes of an enterprise to `each`, in their order.
pub async fn for_each_change(
    connection: &mut PgConnection,
    buin: i64,
    mut each: impl FnMut(FeedChange),
) {
    let sql = "select feed.seq, '{' || upper(feed.session_id::text) || '}' as session_id,
                      feed.version, event.kind, event.app_id, event.changes
               from feed join session_event as event using (session_id, version)
               where feed.buin = $1 order by feed.seq";
    let mut changes = sqlx::query_as::<_, FeedChange>(sql).bind(buin).fetch(connection);
    while let Some(change) = changes.try_next().await.unwrap() {
        each(change);
    }
}

/// The number of changes that have a number, and the highest number.
pub async fn feed_end(executor: impl PgExecutor<'_>) -> (i64, i64) {
    let sql = "select count(*), coalesce(max(position), 0) from feed";
    sqlx::query_as(sql).fetch_one(executor).await.unwrap()
}

/// The present version of each session, by the id that the API shows.
pub async fn session_versions(executor: impl PgExecutor<'_>) -> Vec<(String, i64)> {
    let sql = "select '{' || upper(session_id::text) || '}', version from session";
    sqlx::query_as(sql).fetch_all(executor).await.unwrap()
}

/// Whether a read of at most `limit` changes from the beginning of the feed leaves some out.
pub async fn is_feed_truncated(app: &TestApp, limit: u32) -> bool {
    let (mut connection, start) = (connect(app).await, FeedPosition::default());
    let found = changes_since(&mut connection, start, DateTime::UNIX_EPOCH, limit).await;
    found.unwrap().is_truncated
}

/// The number of statements whose changes wait for a number.
pub async fn count_waiting(executor: impl PgExecutor<'_>) -> i64 {
    sqlx::query_scalar("select count(*) from outbox").fetch_one(executor).await.unwrap()
}

/// The identity of the line of history.
pub async fn epoch(executor: impl PgExecutor<'_>) -> String {
    sqlx::query_scalar("select epoch::text from feed_state").fetch_one(executor).await.unwrap()
}

/// The process of PostgreSQL that serves the server which numbers changes.
pub async fn sequencer(executor: impl PgExecutor<'_>) -> Option<i32> {
    let sql = "select pid from pg_locks
               where locktype = 'advisory' and granted and objid = 'outbox'::regclass::oid
                 and database = (select oid from pg_database where datname = current_database())";
    sqlx::query_scalar(sql).fetch_optional(executor).await.unwrap()
}

/// Ends a process of PostgreSQL that serves a client.
pub async fn end_backend(executor: impl PgExecutor<'_>, pid: i32) {
    sqlx::query("select pg_terminate_backend($1)").bind(pid).execute(executor).await.unwrap();
}

/// Switches the feed off for the next connections to a database.
pub async fn switch_off_feed(database: &Database) {
    let sql = format!("alter database {} set muster.feed = off", database.name);
    connect_to(database).await.execute(AssertSqlSafe(sql)).await.unwrap();
}

/// Keeps changes from being numbered, until the transaction ends.
pub async fn lock_feed(app: &TestApp) -> PgConnection {
    let mut connection = connect(app).await;
    execute(&mut connection, "begin; lock table feed in share mode").await;
    connection
}

/// Writes a change of an hour ago, and keeps changes from being numbered until `holder` is closed.
pub async fn strand_change(holder: &mut PgConnection, writer: &mut PgConnection) {
    execute(holder, "begin; lock table feed in share mode").await;
    let sql = "insert into outbox (written_at, session_ids, versions)
               values (clock_timestamp() - interval '1 hour', '{}', '{}')";
    execute(writer, sql).await;
}

/// The columns whose values mean something in one cluster of databases only, such as transaction ids.
pub async fn columns_of_one_cluster(executor: impl PgExecutor<'_>) -> Vec<String> {
    let sql = "select format('%s.%s %s', table_name, column_name, data_type)
               from information_schema.columns
               where table_schema = 'public'
                 and (data_type in ('xid', 'xid8', 'cid', 'tid', 'oid', 'pg_lsn', 'pg_snapshot',
                                    'txid_snapshot')
                      or data_type like 'reg%'
                      or column_default ~ '(xid|xact|snapshot|lsn)')";
    sqlx::query_scalar(sql).fetch_all(executor).await.unwrap()
}

/// Keeps the rows that are deleted from now on, until the transaction ends.
pub async fn hold_snapshot(app: &TestApp) -> PgConnection {
    let mut connection = connect(app).await;
    execute(&mut connection, "begin isolation level repeatable read; select from session").await;
    connection
}

/// The number of scans of the index of waiting changes, and of its entries that they read.
pub async fn outbox_scans(executor: impl PgExecutor<'_>) -> (i64, i64) {
    let sql = "select idx_scan, idx_tup_read from pg_stat_user_indexes
               where indexrelname = 'outbox_pkey'";
    sqlx::query_as(sql).fetch_one(executor).await.unwrap()
}

/// The number of waiting changes that were ever deleted.
pub async fn deleted_outbox_rows(executor: impl PgExecutor<'_>) -> i64 {
    let sql = "select n_tup_del from pg_stat_user_tables where relname = 'outbox'";
    sqlx::query_scalar(sql).fetch_one(executor).await.unwrap()
}

/// Vacuums the table of waiting changes. Returns the number of deleted rows that had to stay.
pub async fn vacuum_outbox(app: &TestApp) -> i64 {
    let mut connection = connect(app).await;
    execute(&mut connection, "vacuum outbox").await;
    let sql = "select n_dead_tup from pg_stat_user_tables where relname = 'outbox'";
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

/// Removes a column that followers read.
pub async fn break_feed(app: &TestApp) {
    execute(&app.pool, "alter table feed rename column session_id to was_session_id").await;
}

/// Hides the table with the changes of roles, or shows it again. Statements that read it fail meanwhile.
pub async fn hide_role_changes(app: &TestApp, is_hidden: bool) {
    let sql = match is_hidden {
        true => "alter table role_change rename to hidden",
        false => "alter table hidden rename to role_change",
    };
    execute(&app.pool, sql).await;
}

/// The differences between the stored changes of roles and those that the history tells.
pub async fn unlisted_role_changes(executor: impl PgExecutor<'_>) -> Vec<String> {
    let sql = "
        with expected as (
            select event.buin, account, 'member' as role, session_id, version, gained
            from session_event as event
            cross join lateral (
                select account, true as gained
                from jsonb_array_elements_text(changes -> 'addMember') as added (account)
                union all
                select account, false
                from jsonb_array_elements_text(changes -> 'delMember') as removed (account)
            ) as change
            where version > 1
            union all
            select event.buin, change.account, 'owner', event.session_id, event.version, gained
            from session_event as event
            join session_event as previous
              on previous.session_id = event.session_id and previous.version = event.version - 1
            cross join lateral (values (previous.owner, false), (event.owner, true))
                as change (account, gained)
            where previous.owner <> event.owner
        ), stored as (
            select buin, account, role, session_id, version, gained from role_change
        )
        select 'missing ' || missing::text from (table expected except table stored) as missing
        union all
        select 'surplus ' || surplus::text from (table stored except table expected) as surplus";
    sqlx::query_scalar(sql).fetch_all(executor).await.unwrap()
}

/// Begins another line of history.
pub async fn begin_another_epoch(app: &TestApp) {
    renew_epoch(&mut connect(app).await).await.unwrap();
}

/// Gives changes the times of their numbers: two changes in a second, from the year 2020 on.
pub async fn set_numbered_times(app: &TestApp) {
    let sql = "update feed
               set sequenced_at = '2020-01-01T00:00:00Z'::timestamptz + seq / 2 * interval '1 s'";
    execute(&app.pool, sql).await;
}

/// Appends updates of a session to its history and to the feed, by the app `x`.
pub async fn append_changes(app: &TestApp, session_id: &str, count: i64) {
    append_changes_of_kind(app, session_id, count, "updated").await;
}

/// The same with changes of another kind.
pub async fn append_changes_of_kind(app: &TestApp, session_id: &str, count: i64, kind: &str) {
    let sql = "with head as (
                   select max(position) as position, max(seq) filter (where buin = $3) as seq
                   from feed
               ), updated as (
                   update session set version = version + $2
                   where session_id = $1::uuid and buin = $3
                   returning session_id, buin, version - $2 as last, title, owner, updated_at
               ), event as (
                   insert into session_event (session_id, version, buin, kind, operator, app_id,
                                              title, owner, changes, created_at)
                   select session_id, last + number, buin, $4, owner, 'x', title, owner,
                          '{\"title\": \"appended\"}', updated_at
                   from updated cross join generate_series(1, $2) as number
               )
               insert into feed (position, buin, seq, session_id, version, kind, app_id, sequenced_at)
               select head.position + number, buin, head.seq + number, session_id, last + number,
                      $4, 'x', clock_timestamp()
               from updated cross join head cross join generate_series(1, $2) as number";
    let query = sqlx::query(sql).bind(session_id).bind(count).bind(BUIN).bind(kind);
    query.execute(&app.pool).await.unwrap();
    execute(&app.pool, "analyze feed").await;
}

/// The number of rows of the feed and of roles that have been read. The connection of the pool, which
/// has only one, reports the rows that it has read.
pub async fn feed_rows_read(pool: &Pool) -> i64 {
    sqlx::query("select pg_stat_force_next_flush()").execute(pool).await.unwrap();
    let sql = "select sum(coalesce(idx_tup_read, 0))::bigint
                      + (select sum(seq_tup_read)::bigint from pg_stat_user_tables
                         where relname in ('feed', 'role_change', 'session_member', 'session'))
               from pg_stat_user_indexes
               where relname in ('feed', 'role_change', 'session_member', 'session')";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// The plan of the statement of `.sqlx` that contains `text`, for any arguments of these types.
pub async fn generic_plan(app: &TestApp, text: &str, types: &str, arguments: &str) -> String {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let mut queries = files.map(|file| {
        let statement = std::fs::read_to_string(file).unwrap();
        let statement: serde_json::Value = serde_json::from_str(&statement).unwrap();
        statement["query"].as_str().unwrap().to_owned()
    });
    let query = queries.find(|query| query.contains(text)).unwrap();
    let mut connection = connect(app).await;
    let prepare = format!("prepare explained ({types}) as {query}");
    for sql in ["set plan_cache_mode = force_generic_plan".to_owned(), prepare] {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    let explain = format!("explain execute explained ({arguments})");
    let lines = sqlx::query_scalar::<_, String>(AssertSqlSafe(explain));
    lines.fetch_all(&mut connection).await.unwrap().join("\n")
}

/// Ends all connections to the database of an app.
pub async fn end_all_backends(app: &TestApp) {
    let sql = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and backend_type = 'client backend'
                 and pid <> pg_backend_pid()";
    execute(&mut connect(app).await, sql).await;
}
