//! Sessions and their history as they are stored, and changes that the service does not see.

use chrono::{DateTime, Utc};
use muster::domain::SessionId;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _, PgExecutor};

use super::{Pool, connect, execute};
use crate::harness::{BUIN, TestApp};

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
pub async fn inconsistent_sessions(connection: &mut PgConnection) -> Vec<String> {
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
pub async fn set_oversized_title(app: &TestApp, session_id: &str) {
    let sql = "update session set title = repeat('x', 1000) where session_id = $1::uuid";
    sqlx::query(sql).bind(session_id).execute(&mut connect(app).await).await.unwrap();
}

/// Gives all sessions a title that the service never stores.
pub async fn set_invalid_titles(app: &TestApp) {
    execute(&app.pool, "update session set title = chr(7)").await;
}

/// Removes the column of titles.
pub async fn rename_title_column(app: &TestApp) {
    execute(&app.pool, "alter table session rename column title to headline").await;
}

/// Removes the table of events.
pub async fn rename_event_table(app: &TestApp) {
    execute(&app.pool, "alter table session_event rename to secret_event").await;
}

/// Restores the table of events.
pub async fn restore_event_table(app: &TestApp) {
    execute(&app.pool, "alter table secret_event rename to session_event").await;
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

/// Makes each new idempotency key take 2 milliseconds.
pub async fn slow_down_key_inserts(app: &TestApp) {
    let sql = "create function slow() returns trigger language plpgsql as
                   'begin perform pg_sleep(0.002); return new; end';
               create trigger slow before insert on idempotency
                   for each row execute function slow()";
    execute(&app.pool, sql).await;
}

/// Writes sessions one second apart, all owned by `bot` and with `a` in the title. Every 3000th is
/// dissolved, every 4000th was changed later, and every 500th has `rare` in its title. The session
/// of number n ends with n in its id.
pub async fn insert_many_sessions(app: &TestApp, begin: DateTime<Utc>, count: i32) {
    let numbered = "create table numbered as \
         select n, ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid as session_id, \
                'a' || case when n % 500 = 0 then ' rare' else '' end as title, \
                case when n % 3000 = 0 then 'dissolved' else 'active' end as state, \
                $1::timestamptz + n * interval '1 second' as created_at, \
                $1::timestamptz + (n + case when n % 4000 = 0 then 2000000 else 0 end) \
                    * interval '1 second' as updated_at, \
                $2::bigint as buin, 1 + (n % 4000 = 0)::int as version \
         from generate_series(1, $3::int) as n";
    let numbered = sqlx::query(numbered).bind(begin).bind(BUIN).bind(count);
    numbered.execute(&app.pool).await.unwrap();
    for sql in [
        "insert into session (session_id, buin, title, owner, version, state, member_count, \
                              created_at, updated_at) \
         select session_id, buin, title, 'bot', version, state, 3, created_at, updated_at \
         from numbered",
        "insert into session_member (session_id, buin, account, joined_version, position) \
         select session_id, buin, account, 1, place from numbered \
         cross join unnest(array['bot', 'x', 'y']) with ordinality as member (account, place)",
        "insert into session_event (session_id, version, buin, kind, operator, app_id, title, \
                                    owner, changes, created_at) \
         select session_id, number, buin, 'updated', 'bot', 'x', title, 'bot', '{}', \
                case when number = 1 then created_at else updated_at end \
         from numbered cross join generate_series(1, version) as number",
        "insert into session_title (session_id, buin, folded) \
         select session_id, buin, title from numbered",
    ] {
        execute(&app.pool, sql).await;
    }
}

/// The number of pages of the index of changes by time that have been read. The connection of the pool,
/// which has only one, reports those that it has read.
pub async fn change_index_pages_read(pool: &Pool) -> i64 {
    sqlx::query("select pg_stat_force_next_flush()").execute(pool).await.unwrap();
    let sql = "select idx_blks_read + idx_blks_hit from pg_statio_user_indexes \
               where indexrelname = 'session_event_by_time'";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// Gives the sessions of a title this number of members, without the members.
pub async fn set_member_count(app: &TestApp, title: &str, count: i32) {
    let sql = "update session set member_count = $2 where title = $1";
    sqlx::query(sql).bind(title).bind(count).execute(&app.pool).await.unwrap();
}

/// Changes the title of a session to `late`, in its version 2. The change becomes visible at the end
/// of the transaction, by [`super::commit`].
pub async fn begin_late_update(app: &TestApp, session_id: SessionId) -> PgConnection {
    let mut connection = connect(app).await;
    execute(&mut connection, "begin").await;
    let sql = "with updated as (
                   update session
                   set version = 2, title = 'late', updated_at = clock_timestamp()
                   where session_id = $1
                   returning updated_at
               )
               insert into session_event (session_id, version, buin, kind, operator, app_id, title,
                                          owner, changes, created_at)
               select $1, 2, $2, 'updated', 'a', 'x', 'late', 'a', '{\"title\": \"late\"}', updated_at
               from updated";
    let update = sqlx::query(sql).bind(session_id.uuid()).bind(BUIN);
    update.execute(&mut connection).await.unwrap();
    connection
}
