//! Rows of the search by title.

use chrono::{DateTime, Utc};
use muster::domain::SessionId;
use muster::repository::Pool;

use super::{connect, execute};
use crate::harness::{BUIN, TestApp};

/// Writes active sessions with one member, `bot`, that were created ten minutes apart: first `old` ones with
/// the title `a legacy`, then `new` ones with the title `a recent`. The last digits of an id are the number of
/// the session, from 1.
pub async fn insert_sessions_of_two_ages(app: &TestApp, begin: DateTime<Utc>, old: i32, new: i32) {
    let aged = "create table aged as \
         select n, created_at, $2::bigint as buin, \
                (lpad(to_hex((extract(epoch from created_at) * 1000)::bigint), 12, '0') \
                    || '70008000' || lpad(to_hex(n), 12, '0'))::uuid as session_id, \
                case when n <= $3::int then 'a legacy' else 'a recent' end as title \
         from generate_series(1, $3 + $4::int) as n \
         cross join lateral (select $1::timestamptz + n * interval '10 minutes' as created_at) as time";
    let aged = sqlx::query(aged).bind(begin).bind(BUIN).bind(old).bind(new);
    aged.execute(&app.pool).await.unwrap();
    for sql in [
        "insert into session (session_id, buin, title, owner, version, state, member_count, \
                              created_at, updated_at) \
         select session_id, buin, title, 'bot', 1, 'active', 1, created_at, created_at from aged",
        "insert into session_member (session_id, buin, account, joined_version, position) \
         select session_id, buin, 'bot', 1, 0 from aged",
        "insert into session_event (session_id, version, buin, kind, operator, app_id, title, \
                                    owner, changes, created_at) \
         select session_id, 1, buin, 'created', 'bot', 'x', title, 'bot', '{}', created_at from aged",
        "insert into session_title (session_id, buin, folded) \
         select session_id, buin, title from aged",
    ] {
        execute(&app.pool, sql).await;
    }
    let sql = "vacuum analyze session, session_title, session_member, session_event";
    execute(&mut connect(app).await, sql).await;
}

/// Makes the index of titles that the previous release searches, as it is before the contract.
pub async fn add_earlier_title_index(app: &TestApp) {
    let sql = "create index session_title_by_buin_grams on session_title \
               using gin ((array[buin]), grams)";
    execute(&app.pool, sql).await;
}

/// Removes the index of [`add_earlier_title_index`], as the contract does.
pub async fn drop_earlier_title_index(app: &TestApp) {
    execute(&app.pool, "drop index session_title_by_buin_grams").await;
}

/// The numbers by which the previous release finds the title of a session; `None` if the row has none. The
/// second list has the expected ones: each character, and each pair of adjacent characters.
pub async fn title_grams(app: &TestApp, id: SessionId) -> (Option<Vec<i64>>, Vec<i64>) {
    let sql = "select grams, folded from session_title where session_id = $1";
    let (grams, folded): (Option<Vec<i64>>, String) =
        sqlx::query_as(sql).bind(id.uuid()).fetch_one(&app.pool).await.unwrap();
    let grams = grams.map(|mut grams| {
        grams.sort_unstable();
        grams
    });
    let codes: Vec<i64> = folded.chars().map(|c| i64::from(u32::from(c)) << 21).collect();
    let pairs = codes.windows(2).map(|pair| pair[0] + (pair[1] >> 21));
    let mut expected: Vec<i64> = pairs.chain(codes.iter().copied()).collect();
    expected.sort_unstable();
    expected.dedup();
    (grams, expected)
}

/// Writes titles of another enterprise that contain `rare`, like some of [`insert_many_sessions`].
pub async fn insert_foreign_titles(app: &TestApp, buin: i64, count: i32) {
    let sql = "insert into session_title (session_id, buin, folded) \
               select md5('foreign' || number)::uuid, $1, folded \
               from session_title cross join generate_series(1, $2) as number \
               where session_id = (select session_id from session_title \
                                   where folded = 'a rare' limit 1)";
    sqlx::query(sql).bind(buin).bind(count).execute(&app.pool).await.unwrap();
}

/// Sorts new titles into their index, as PostgreSQL does by itself from time to time.
pub async fn vacuum_titles(app: &TestApp) {
    execute(&mut connect(app).await, "vacuum analyze session_title").await;
}

/// The number of rows of `session_title` that have been read. The connection of the pool, which has
/// only one, reports the rows that it has read.
pub async fn title_rows_read(pool: &Pool) -> i64 {
    sqlx::query("select pg_stat_force_next_flush()").execute(pool).await.unwrap();
    let sql = "select (coalesce(idx_tup_fetch, 0) + seq_tup_read)::bigint \
               from pg_stat_user_tables where relname = 'session_title'";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}
