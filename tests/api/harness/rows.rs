//! All rows of a database, to compare two databases.

use std::collections::BTreeMap;

use muster::postgres::embedded::{EmbeddedPostgres, Options, StartupTimeouts};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::process::{Home, PlainClient};

/// Keeps the PostgreSQL of a home running, independent of commands.
pub async fn start_postgres(home: &Home) -> EmbeddedPostgres {
    let options = Options {
        data_dir: home.data_dir.clone(),
        postgres_dir: None,
        download: false,
        max_connections: 10,
        timeouts: StartupTimeouts::COMMAND,
    };
    EmbeddedPostgres::start(&options).await.unwrap()
}

/// Every row of every table as text, without the record of migrations and the identity of the feed,
/// which a restore replaces.
pub async fn rows(connection: &mut PgConnection) -> BTreeMap<String, Vec<String>> {
    let tables: Vec<(String, String)> = sqlx::query_as(
        "select relname::text, string_agg(attname, ', ' order by attname) from pg_class
         join pg_attribute on attrelid = pg_class.oid
         where relkind = 'r' and relnamespace = 'public'::regnamespace and attnum > 0
           and relname not in ('_sqlx_migrations', 'feed_state') and not attisdropped
         group by relname",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    assert!(tables.len() > 8, "{tables:?}");
    let mut all = BTreeMap::new();
    for (table, columns) in tables {
        // The audit entries of the backup or restore itself exist in only one of the databases.
        let own = if table == "audit" { "where action not like 'database.%'" } else { "" };
        let sql = format!("select row({columns})::text from {table} {own} order by 1");
        let rows = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *connection).await;
        all.insert(table, rows.unwrap());
    }
    all
}

/// Compares two databases row by row.
#[track_caller]
pub fn assert_same(left: &BTreeMap<String, Vec<String>>, right: &BTreeMap<String, Vec<String>>) {
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
    for (table, rows) in left {
        assert_eq!(rows, &right[table], "{table}");
    }
}

/// Fills every table: Unicode, attributes with U+0000, deliveries in all states with attempts.
/// Returns the sessions as the API shows them.
pub async fn populate(home: &Home, connection: &mut PgConnection) -> (Value, Vec<Value>) {
    let callback = ["--callback-url", "http://127.0.0.1:1/", "--callback-token", "hush-hush"];
    let app = home.json(
        &[&["app", "create", "--buin", "7", "--app-id", "mine", "--name", "Ünï 👩‍👩‍👧"][..], &callback]
            .concat(),
    );
    let key = home.json(&["key", "create", "--buin", "7", "--app-id", "mine"]);
    let server = home.serve();
    let plain = server.plain_client(key["key"].as_str().unwrap());
    let mut sessions = Vec::new();
    for number in 0..6 {
        let created = rest(
            &plain,
            reqwest::Method::POST,
            "/v1/sessions",
            &json!({ "operator": "爱丽丝", "title": format!("项目 {number} 👩‍👩‍👧 \u{10FFFF}"),
                     "member": ["bob", "مريم", "c"], "attributes": { "a\u{0}b": 0.1, "n": number } }),
        )
        .await;
        let path = format!("/v1/sessions/{}", created["sessionId"].as_str().unwrap());
        let changed = rest(
            &plain,
            reqwest::Method::PATCH,
            &path,
            &json!({ "operator": "bob", "addMember": ["dävid"], "reason": "because ☂" }),
        )
        .await;
        sessions.push(changed);
        if number == 0 {
            fetch_by_consumer(&plain).await;
        }
    }
    drop(server.stop());
    connection
        .execute(
            "update delivery set lease = null, state = 'pending', finished_at = null,
                 due_at = '2100-01-01';
             insert into delivery_attempt (session_id, app_id, version, attempt, started_at,
                 duration_ms, status, error, answer)
             select session_id, app_id, version, 100, now(), 5, 500, 'status', 'nö'
             from delivery;
             insert into session_snapshot (session_id, version, buin, title, owner, state, members,
                 attributes, created_at, updated_at)
             select session_id, version, buin, title, owner, state, array['爱丽丝', 'مريم'],
                    attributes, created_at, updated_at
             from session;
             insert into consumer_held_event (consumer_id, session_id, seq, version, prev_seq,
                 bytes, attempts, member, parked_at)
             select consumer_id, session_id, 1000000 + seq, version, 0, bytes, 10, 'wörker', now()
             from consumer_event;
             update consumer_position set held_back = (
                 select count(*) from consumer_held_event as held
                 where held.consumer_id = consumer_position.consumer_id
             );
             -- Some changes wait for their number still.
             with waiting as (
                 delete from feed where position > 8 returning session_id, version
             )
             insert into outbox (written_at, session_ids, versions)
             select now(), array_agg(session_id), array_agg(version) from waiting;
             with numbered as (
                 select session_id, version, row_number() over (order by session_id, version) as n
                 from delivery
             )
             update delivery
             set state = case n % 4 when 0 then 'pending' when 1 then 'leased'
                         when 2 then 'delivered' else 'failed' end,
                 lease = case n % 4 when 1 then gen_random_uuid() end,
                 finished_at = case when n % 4 in (2, 3) then now() end
             from numbered
             where numbered.session_id = delivery.session_id
               and numbered.version = delivery.version",
        )
        .await
        .unwrap();
    let found = rows(connection).await;
    for (table, rows) in &found {
        assert!(!rows.is_empty(), "no rows in {table}: the test could not detect their loss");
    }
    (app, sessions)
}

/// Makes a consumer with an event that a member has.
async fn fetch_by_consumer(plain: &PlainClient) {
    let call = async |method, path: &str, body: Value| {
        let request = plain.http.request(method, format!("{}{path}", plain.base));
        let request = request.bearer_auth(&plain.api_key);
        let answer = request.header("Content-Type", "application/json").body(body.to_string());
        let answer = answer.send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        answer.json::<Value>().await.unwrap()
    };
    let start = json!({ "start": "0", "filter": { "member": "مريم" } });
    call(reqwest::Method::PUT, "/v1/consumers/mirror", start).await;
    let fetch = json!({ "member": "worker", "max": 1, "wait": "30s" });
    let fetched = call(reqwest::Method::POST, "/v1/consumers/mirror/fetch", fetch).await;
    assert_eq!(fetched["events"].as_array().map(Vec::len), Some(1), "{fetched}");
}

/// A call of the REST API with a new idempotency key, which must succeed.
pub async fn rest(plain: &PlainClient, method: reqwest::Method, path: &str, body: &Value) -> Value {
    let request = plain
        .http
        .request(method, format!("{}{path}", plain.base))
        .bearer_auth(&plain.api_key)
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", format!("{:032x}", rand::random::<u128>()))
        .body(body.to_string());
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    answer.json().await.unwrap()
}
