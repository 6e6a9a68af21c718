//! Databases that were copied by PostgreSQL's own tools: they are noticed, repaired, and then work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::harness::cluster::Cluster;
use crate::harness::process::{Home, Output, Server};
use crate::harness::server::database;
use crate::harness::{MASTER_KEY, unshared};

const BUIN: &str = "7";
const SESSIONS: usize = 5;
/// Far above the number of transactions of a new cluster, and on the first page of the commit log.
const LATER: u32 = 20_000;
const REPAIRED: &str = "its transaction ids and sequences were repaired";

async fn connection(options: &sqlx::postgres::PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(options).await.unwrap()
}

/// An API key of a new app, and sessions that were created and changed through a server.
async fn fill(home: &Home) -> String {
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
    server.stop();
    key
}

/// The list is complete, the cache is used, and changes are possible.
async fn assert_works(server: &Server, key: &str) {
    let plain = server.plain_client(key);
    let list: Value = plain
        .http
        .get(server.url("/v1/sessions?sort=-updatedAt"))
        .bearer_auth(key)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let sessions = list["items"].as_array().unwrap_or_else(|| panic!("{list}"));
    assert_eq!(sessions.len(), SESSIONS, "{list}");
    let id = sessions[0]["sessionId"].as_str().unwrap().to_owned();
    if !unshared() {
        let log = server.running.until_stderr("the metrics address", |log| {
            Some(log.split_once(" metrics=")?.1.split_once('\n')?.0.to_owned())
        });
        let metrics = format!("http://{log}/metrics");
        let mut hits = 0.0;
        // The cache answers only while it is synced, so the test repeats the read.
        while hits == 0.0 {
            assert_eq!(plain.get(&id).await["errcode"], 0);
            let page = plain.http.get(&metrics).send().await.unwrap().text().await.unwrap();
            let line = page.lines().find(|line| line.starts_with("muster_cache_hits_total"));
            hits = line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
        }
    }
    let change = json!({ "sessionId": id, "opUser": "a", "title": "after the copy" });
    let changed = plain.post("update", &change).await;
    assert_eq!((&changed["errcode"], &changed["version"]), (&json!(0), &json!(3)), "{changed}");
}

/// The command succeeded, and warned of the repair.
#[track_caller]
fn assert_repaired(output: &Output) {
    assert!(output.status.success() && output.stderr.contains(REPAIRED), "{output:?}");
}

/// The verdict of the doctor about the events, and its finding.
fn events(checks: &Value) -> (String, String) {
    let all = checks.as_array().unwrap();
    let check = all.iter().find(|check| check["check"] == "events").unwrap();
    let text = |field: &str| check[field].as_str().unwrap().to_owned();
    (text("verdict"), text("found"))
}

#[tokio::test(flavor = "multi_thread")]
async fn events_from_the_future_are_noticed_and_renumbered() {
    let database = database().await;
    let mut home = Home::for_database(&database);
    let key = fill(&home).await;
    let mut connection = connection(&database.options).await;
    let copy = "update session_event set xid = (xid::text::bigint + 1000000000)::text::xid8";
    let future = "select count(*) from session_event
                  where xid >= pg_snapshot_xmax(pg_current_snapshot())";
    let all = i64::try_from(2 * SESSIONS).unwrap();

    // Without the permission to migrate, a server only warns.
    connection.execute(copy).await.unwrap();
    let checks = home.run(&["doctor", "--json"]);
    assert_eq!(checks.status.code(), Some(1), "{checks:?}");
    let (verdict, found) = events(&checks.json());
    assert!(verdict == "fail" && found.contains("copy from another PostgreSQL"), "{found}");
    home.set("MUSTER__DATABASE__MIGRATE", "false");
    let output = home.serve().stop();
    assert!(output.stderr.contains("until `muster migrate`"), "{output:?}");
    assert_eq!(sqlx::query_scalar::<_, i64>(future).fetch_one(&mut connection).await.unwrap(), all);

    home.set("MUSTER__DATABASE__MIGRATE", "true");
    let server = home.serve();
    assert_works(&server, &key).await;
    let output = server.stop();
    assert!(output.stderr.contains(REPAIRED), "{output:?}");
    assert_eq!(sqlx::query_scalar::<_, i64>(future).fetch_one(&mut connection).await.unwrap(), 0);
    let (verdict, _) = events(&home.json(&["doctor"]));
    assert_eq!(verdict, "ok");
    home.run(&["migrate"]).ok();

    // `muster migrate` repairs a copy, too. The repair waits for a running migration.
    connection.execute(copy).await.unwrap();
    assert_repaired(&home.run(&["migrate"]));
    assert_eq!(sqlx::query_scalar::<_, i64>(future).fetch_one(&mut connection).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sequence_behind_its_rows_is_moved() {
    let database = database().await;
    let home = Home::for_database(&database);
    home.json(&["app", "create", "--buin", BUIN, "--app-id", "one"]);
    let mut connection = connection(&database.options).await;
    connection.execute("select setval('audit_audit_id_seq', 1, false)").await.unwrap();
    assert_repaired(&home.run(&["app", "create", "--buin", BUIN, "--app-id", "two"]));
    home.json(&["app", "create", "--buin", BUIN, "--app-id", "three"]);
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
    let key = fill(&home).await;

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
    assert!(text.contains(REPAIRED), "{text}");

    home.set("MUSTER__DATABASE__URL", &new.url("muster"));
    let server = home.serve();
    assert_works(&server, &key).await;
    server.stop();
    // The audit goes on behind the copied lines.
    home.json(&["app", "create", "--buin", BUIN, "--app-id", "later"]);
    let lines = home.json(&["audit", "list", "--action", "app.create"]);
    assert_eq!(lines[0]["appId"], "later", "{lines}");
    assert_eq!(lines.as_array().unwrap().len(), 2, "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_by_pg_dump_works_as_the_manual_says() {
    copy_by_the_manual("By pg_dump and pg_restore").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_by_logical_replication_works_as_the_manual_says() {
    copy_by_the_manual("By logical replication").await;
}
