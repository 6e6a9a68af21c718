//! Databases that were copied by PostgreSQL's own tools: they work as the original did.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::feed::streams::{EVENTS, EventReader};
use crate::harness::cluster::Cluster;
use crate::harness::process::{Home, Server};
use crate::harness::server::database;
use crate::harness::{MASTER_KEY, store, unshared, wait_until};

const BUIN: &str = "7";
const SESSIONS: usize = 5;
/// Far above the number of transactions of a new cluster, and on the first page of the commit log.
const LATER: u32 = 20_000;

async fn connection(options: &sqlx::postgres::PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(options).await.unwrap()
}

/// Cursors that were given before the copy.
struct Cursors {
    /// The API key of the app.
    key: String,
    /// A cursor of the list by change.
    list: String,
    /// A cursor of the feed after the change `SESSIONS + 1`.
    feed: String,
    /// A cursor of the feed in a snapshot, after two sessions.
    snapshot: String,
}

/// The path of a consumer.
const CONSUMER: &str = "/v1/consumers/copied";

/// The cursors of a new app, after sessions were created and changed through a server. The app has a
/// consumer that has done the first three changes.
async fn fill(home: &Home) -> Cursors {
    let permissions = "sessions:read,sessions:write,sessions:admin";
    home.json(&["app", "create", "--buin", BUIN, "--app-id", "mine", "--permissions", permissions]);
    let key = home.json(&["key", "create", "--buin", BUIN, "--app-id", "mine"]);
    let key = key["key"].as_str().unwrap().to_owned();
    let server = home.serve();
    let plain = server.plain_client(&key);
    for _ in 0..SESSIONS {
        let session = plain.create().await;
        let change = json!({ "sessionId": session["sessionId"], "opUser": "a", "title": "new" });
        assert_eq!(plain.post("update", &change).await["errcode"], 0);
    }
    let page = list(&server, &key, "&limit=2").await;
    let mut feed = Value::Null;
    wait_until("numbers for all changes", async || {
        feed = get(&server, &key, "/v1/events?after=0&member=a").await;
        feed["headSeq"] == 2 * SESSIONS
    })
    .await;
    let snapshot = get(&server, &key, "/v1/events?snapshot=true&limit=2").await;
    let put = plain.http.put(server.url(CONSUMER)).bearer_auth(&key);
    let made = put.json(&json!({ "start": "0", "lease": "3600s" })).send().await.unwrap();
    assert!(made.status().is_success(), "{made:?}");
    assert_eq!(work(&server, &key, 3).await, [1, 2, 3]);
    server.stop();
    let event = &feed["events"][SESSIONS];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (list, feed, snapshot) = (&page["nextCursor"], &event["cursor"], &snapshot["nextCursor"]);
    Cursors { list: text(list), feed: text(feed), snapshot: text(snapshot), key }
}

/// A member of the consumer does up to `max` changes. Returns their numbers.
async fn work(server: &Server, key: &str, max: usize) -> Vec<i64> {
    let post = async |action: &str, body: Value| -> Value {
        let request =
            server.plain_client(key).http.post(server.url(&format!("{CONSUMER}/{action}")));
        let response = request.bearer_auth(key).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{response:?}");
        response.json().await.unwrap()
    };
    let fetched = post("fetch", json!({ "member": "one", "max": max })).await;
    let events = fetched["events"].as_array().unwrap();
    let cursors: Vec<&Value> = events.iter().map(|event| &event["cursor"]).collect();
    let done = post("ack", json!({ "member": "one", "cursors": cursors })).await;
    assert_eq!(done["acknowledged"], events.len(), "{done}");
    events.iter().map(|event| event["seq"].as_i64().unwrap()).collect()
}

/// All cursors continue where they were.
async fn assert_cursors_hold(server: &Server, cursors: &Cursors) {
    const NEXT: usize = SESSIONS + 2;
    let Cursors { key, list: cursor, feed, snapshot } = cursors;
    let rest = list(server, key, &format!("&limit=200&cursor={cursor}")).await;
    assert_eq!(rest["items"].as_array().unwrap().len(), SESSIONS - 2, "{rest}");
    let mut rest = Value::Null;
    wait_until("numbers for all changes", async || {
        rest = get(server, key, &format!("/v1/events?after={feed}&member=a")).await;
        rest["headSeq"] == 2 * SESSIONS
    })
    .await;
    let numbers = |event: &Value| (event["seq"].clone(), event["prevSeq"].clone());
    let found = rest["events"].as_array().unwrap();
    let expected: Vec<_> = (NEXT..=2 * SESSIONS).map(|seq| (json!(seq), json!(seq - 1))).collect();
    assert_eq!(found.iter().map(numbers).collect::<Vec<_>>(), expected, "{rest}");
    let http = server.plain_client(key).http;
    let stream = http.get(server.url(&format!("{EVENTS}?member=a"))).bearer_auth(key);
    let mut stream = EventReader::from_request(stream.header("last-event-id", feed)).await;
    for expected in expected {
        assert_eq!(numbers(&stream.change().await.json()), expected);
    }
    let rest = get(server, key, &format!("/v1/events?after={snapshot}")).await;
    assert_eq!(rest["sessions"].as_array().unwrap().len(), SESSIONS - 2, "{rest}");
    assert_eq!(rest["snapshot"], "done", "{rest}");
    let mut done = work(server, key, 200).await;
    while done.last() != Some(&(2 * SESSIONS as i64)) {
        done.extend(work(server, key, 200).await);
    }
    assert_eq!(done, (4..=2 * SESSIONS as i64).collect::<Vec<_>>());
}

/// A page of the list by change.
async fn list(server: &Server, key: &str, parameters: &str) -> Value {
    get(server, key, &format!("/v1/sessions?sort=-updatedAt{parameters}")).await
}

async fn get(server: &Server, key: &str, path: &str) -> Value {
    let request = server.plain_client(key).http.get(server.url(path)).bearer_auth(key);
    request.send().await.unwrap().json().await.unwrap()
}

/// The list is complete, the cache is used, and changes are possible.
async fn assert_works(server: &Server, key: &str) {
    let plain = server.plain_client(key);
    let list = list(server, key, "").await;
    let sessions = list["items"].as_array().unwrap_or_else(|| panic!("{list}"));
    assert_eq!(sessions.len(), SESSIONS, "{list}");
    let id = sessions[0]["sessionId"].as_str().unwrap().to_owned();
    let metrics = async || {
        let page = plain.http.get(server.metrics_url()).send().await.unwrap();
        page.text().await.unwrap()
    };
    if !unshared() {
        // The cache answers only while it is synced, so the test repeats the reads until all of them
        // need no statement.
        wait_until("reads from memory", async || {
            let before = metrics().await;
            for _ in 0..READS {
                assert_eq!(plain.get(&id).await["errcode"], 0);
            }
            let after = metrics().await;
            let hits =
                sum(&after, "muster_cache_hits_total") - sum(&before, "muster_cache_hits_total");
            hits == READS as f64 && sum(&after, STATEMENTS) == sum(&before, STATEMENTS)
        })
        .await;
    }
    let change = json!({ "sessionId": id, "opUser": "a", "title": "after the copy" });
    let before = sum(&metrics().await, UPDATES);
    let changed = plain.post("update", &change).await;
    assert_eq!((&changed["errcode"], &changed["version"]), (&json!(0), &json!(3)), "{changed}");
    assert_eq!(sum(&metrics().await, UPDATES) - before, 1.0, "a change is one statement");
}

/// The number of reads that need no statement.
const READS: usize = 50;
/// The number of shared statements, and that of updates.
const STATEMENTS: &str = "muster_statement_items_count";
const UPDATES: &str = "muster_statement_items_count{kind=\"update\"";

/// The sum of the series that begin with this text.
fn sum(page: &str, begin: &str) -> f64 {
    let values = page.lines().filter(|line| line.starts_with(begin));
    let values: Vec<f64> =
        values.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
    assert!(!values.is_empty(), "{begin}");
    values.iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn sequence_behind_its_rows_does_no_harm() {
    let database = database().await;
    let home = Home::for_database(&database);
    home.json(&["app", "create", "--buin", BUIN, "--app-id", "one"]);
    let mut connection = connection(&database.options).await;
    connection.execute("select setval('audit_audit_id_seq', 1, false)").await.unwrap();
    for id in ["two", "three"] {
        home.json(&["app", "create", "--buin", BUIN, "--app-id", id]);
    }
    assert_eq!(home.json(&["audit", "verify"])["lines"], 4);
}

/// The shell commands of a section of the manual page, joined to one script.
fn commands(section: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operate/postgresql-tools.md");
    let page = fs::read_to_string(page).unwrap();
    let text = page.split_once(&format!("\n## {section}\n")).unwrap().1;
    let text = text.split_once("\n## ").map_or(text, |(text, _)| text);
    let blocks = text.split("\n```sh\n").skip(1).map(|block| block.split_once("\n```").unwrap().0);
    blocks.collect::<Vec<_>>().join("\n")
}

/// No server reads sessions or changes while nothing changes.
async fn assert_idle_reads_nothing(connection: &mut PgConnection) {
    let reads = "select coalesce(sum(coalesce(idx_tup_fetch, 0) + seq_tup_read), 0)::bigint
                 from pg_stat_user_tables
                 where relname in ('session', 'session_member', 'session_event', 'session_title',
                                   'session_snapshot', 'role_change', 'consumer_event',
                                   'consumer_held_event', 'delivery')";
    let polls = "select idx_scan from pg_stat_user_indexes where indexrelname = 'outbox_pkey'";
    let mut last = None;
    // The statistics of the last changes arrive late.
    wait_until("polls that read nothing", async || {
        let read: i64 = sqlx::query_scalar(reads).fetch_one(&mut *connection).await.unwrap();
        let polled: i64 = sqlx::query_scalar(polls).fetch_one(&mut *connection).await.unwrap();
        let (first_read, first_polled) = *last.get_or_insert((read, polled));
        if read != first_read {
            last = Some((read, polled));
        }
        read == first_read && polled > first_polled + 40
    })
    .await;
}

/// Runs the commands of a section from one cluster into a new one, and uses the copy.
async fn copy_by_the_manual(section: &str) {
    let (old, new) = (Cluster::start(LATER).await, Cluster::start(0).await);
    for cluster in [&old, &new] {
        connection(&cluster.options("postgres"))
            .await
            .execute("create database muster")
            .await
            .unwrap();
    }
    let mut home = Home::new();
    home.set("MUSTER__SECRETS__MASTER_KEY", MASTER_KEY);
    home.set("MUSTER__DATABASE__URL", &old.url("muster"));
    let cursors = fill(&home).await;
    let mut old_connection = connection(&old.options("muster")).await;
    let epoch = store::epoch(&mut old_connection).await;

    let program = PathBuf::from(env!("CARGO_BIN_EXE_muster"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{}:{path}", program.parent().unwrap().display(), old.programs.display());
    let script = commands(section);
    assert!(script.contains("muster migrate"), "{script}");
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(&home.parent)
        .envs(home.env.iter().map(|(name, value)| (name, value)))
        .env("PATH", path)
        .env("OLD", old.url("muster"))
        .env("NEW", new.url("muster"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stdout));
    let numbered = store::feed_rows(&mut old_connection).await;
    let waiting = store::count_waiting(&mut old_connection).await;

    home.set("MUSTER__DATABASE__URL", &new.url("muster"));
    let server = home.serve();
    assert_cursors_hold(&server, &cursors).await;
    assert_works(&server, &cursors.key).await;
    // The numbers continue where they were.
    let mut new_connection = connection(&new.options("muster")).await;
    wait_until("numbers for all changes", async || {
        store::count_waiting(&mut new_connection).await == 0
    })
    .await;
    let continued = store::feed_rows(&mut new_connection).await;
    assert!(waiting > 0 || continued.len() == numbered.len() + 1, "{waiting} {continued:?}");
    assert_eq!(continued.len(), 2 * SESSIONS + 1, "{continued:?}");
    assert_eq!(continued[..numbered.len()], numbered);
    let positions: Vec<i64> = continued.iter().map(|row| row.position).collect();
    assert_eq!(positions, (1..=i64::try_from(continued.len()).unwrap()).collect::<Vec<_>>());
    assert_eq!(store::epoch(&mut new_connection).await, epoch);
    assert_idle_reads_nothing(&mut new_connection).await;
    server.stop();
    // The audit goes on behind the copied lines.
    home.json(&["app", "create", "--buin", BUIN, "--app-id", "later"]);
    let lines = home.json(&["audit", "list", "--action", "app.create"]);
    assert_eq!(lines[0]["appId"], "later", "{lines}");
    assert_eq!(lines.as_array().unwrap().len(), 2, "{lines}");
    assert_eq!(home.json(&["audit", "verify"])["intact"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_by_pg_dump_works_as_the_manual_says() {
    copy_by_the_manual("By pg_dump and pg_restore").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_by_logical_replication_works_as_the_manual_says() {
    copy_by_the_manual("By logical replication").await;
}
