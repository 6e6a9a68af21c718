//! `/healthz` and `/readyz`, while the service works and while it does not.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::client::read_response;
use crate::harness::process::{Home, http};
use crate::harness::server::{database, owned_database};
use crate::harness::store::{self, MigrationFault};
use crate::harness::{TestApp, refusal, spawn_app, spawn_app_with, wait_until};
use crate::metrics::{scrape, spawn_with};

/// The status and the body.
async fn get(app: &TestApp, path: &str) -> (u16, Value) {
    let response = app.client.get(path).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(response.headers().contains_key("x-request-id"));
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn assert_up(app: &TestApp) {
    let up = json!({
        "status": "ok", "service": "muster", "version": env!("CARGO_PKG_VERSION"),
    });
    assert_eq!(get(app, "/healthz").await, (200, up));
}

/// The response of `/readyz`. The probe is repeated if the database was too slow for it, as on a
/// busy machine.
async fn readiness(app: &TestApp) -> (u16, Value) {
    let mut reply = get(app, "/readyz").await;
    wait_until("an answer in time", async || {
        let slow = reply.1["reason"] == DATABASE_TOO_SLOW;
        if slow {
            reply = get(app, "/readyz").await;
        }
        !slow
    })
    .await;
    reply
}

const DATABASE_TOO_SLOW: &str = "the database does not answer in time";

async fn assert_ready(app: &TestApp) {
    assert_eq!(readiness(app).await, (200, json!({ "status": "ready" })));
}

async fn assert_not_ready(app: &TestApp, reason: &str) {
    let not_ready = json!({ "status": "not ready", "reason": reason });
    let reply =
        if reason == DATABASE_TOO_SLOW { get(app, "/readyz").await } else { readiness(app).await };
    assert_eq!(reply, (503, not_ready));
    assert_up(app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn healthy_server_is_ready() {
    let app = spawn_app().await;
    assert_up(&app).await;
    assert_ready(&app).await;
    let ready = async || get(&app, "/readyz?accessToken=x").await.0 == 200;
    wait_until("readiness with a query", ready).await;
    for path in ["/healthz?", "/healthz?x=1"] {
        assert_eq!(get(&app, path).await.0, 200, "{path}");
    }
    assert_eq!(app.client.get("/healthz/").await.status(), 404);
    for path in ["/healthz", "/readyz"] {
        let head = async || app.client.request(Method::HEAD, path).send().await.unwrap().status();
        wait_until("the same status without a body", async || head().await == 200).await;
        let post = app.client.post(path, "").await;
        assert_eq!(
            (post.status().as_u16(), &post.headers()["allow"]),
            (405, &"GET, HEAD".parse().unwrap())
        );
        let reason: Value = post.json().await.unwrap();
        assert_eq!(reason["reason"], "method: only GET, HEAD, got \"POST\"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_one_statement() {
    let app = spawn_with(|_| {}).await;
    // Each statement of the pool waits for a connection once. Other tasks use the pool as well, so the
    // smallest number counts.
    let statements = async || scrape(&app).await.has("muster_pool_wait_seconds_count");
    wait_until("a probe with one statement", async || {
        let before = statements().await;
        assert_ready(&app).await;
        statements().await - before == 1.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn number_of_statements_does_not_depend_on_the_number_of_probes() {
    const PROBES: usize = 200;
    let app = spawn_with(|_| {}).await;
    let statements = async || scrape(&app).await.has("muster_pool_wait_seconds_count");
    assert_ready(&app).await;
    let before = statements().await;
    let probes: JoinSet<_> = (0..PROBES)
        .map(|_| {
            let client = app.client.clone();
            async move { client.get("/readyz").await.status().as_u16() }
        })
        .collect();
    assert_eq!(probes.join_all().await, [200; PROBES]);
    // At most ten in a second. Other tasks use the pool as well.
    let statements = statements().await - before;
    assert!(statements < PROBES as f64 / 2.0, "{statements}");
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_of_a_disconnected_client_delays_no_other_probe() {
    let app = spawn_app_with(|settings| settings.database.max_connections = 1).await;
    let acquired = app.pool.acquire().await.unwrap();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: muster\r\n\r\n").await.unwrap();
    }
    assert_not_ready(&app, DATABASE_TOO_SLOW).await;
    drop(acquired);
    assert_ready(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_requires_the_current_schema() {
    let app = spawn_app().await;
    store::save_migrations(&app.pool).await;
    let broken = "migration 2 is not as this program left it";
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let all = std::fs::read_dir(migrations).unwrap().count();
    let all = format!("migrations pending: {all}; run `muster migrate`");
    for (fault, reason) in [
        (MigrationFault::OneMissing, "migrations pending: 1; run `muster migrate`"),
        (MigrationFault::AllMissing, &all),
        (MigrationFault::NoTable, &all),
        (MigrationFault::Newer, "the database is newer than this program"),
        (MigrationFault::Unfinished, broken),
        (MigrationFault::Altered, broken),
    ] {
        store::damage_migrations(&app.pool, fault).await;
        assert_not_ready(&app, reason).await;
        store::restore_migrations(&app.pool).await;
        assert_ready(&app).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_database_is_reported_without_details() {
    let app = spawn_app_with(|settings| settings.cache.enabled = false).await;
    let session = app.session(&["a", "b", "c"]).await;
    store::drop_database(&app).await;

    assert_not_ready(&app, "the database cannot be reached").await;
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    let key = &app.api_key;
    let update = json!({ "sessionId": id, "opUser": "a", "title": "t" }).to_string();
    let create = json!({ "title": "t", "creator": "a", "member": ["b", "c"] }).to_string();
    for response in [
        app.client.get(&format!("/cgi/session/get?sessionId={id}&accessToken={key}")).await,
        app.client.post(&format!("/cgi/session/update?accessToken={key}"), update).await,
    ] {
        assert_unavailable(response).await;
    }
    // The first write finds its connection broken, so its outcome is unknown. A connection that was
    // idle for long is tested before and replaced.
    let path = format!("/cgi/session/create?accessToken={key}");
    let first = app.client.post(&path, create.clone()).await;
    assert_eq!(first.json::<Value>().await.unwrap()["errcode"], -1);
    assert_unavailable(app.client.post(&path, create).await).await;
    // Known credentials are still accepted, and unknown ones still refused.
    app.client.token().await;
    let got = read_response(app.client.get("/cgi/session/get?accessToken=forged").await).await;
    assert_eq!(got, refusal(100_001, "accessToken: access token does not exist"));
}

async fn assert_unavailable(response: reqwest::Response) {
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    let body = response.json::<Value>().await.unwrap();
    assert_eq!(body, refusal(-1, "the service is not available, try again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_served_while_the_pool_is_exhausted() {
    let app = spawn_app_with(|settings| {
        settings.cache.enabled = false;
        settings.database.max_connections = 1;
        settings.database.acquire_timeout = Duration::from_millis(100);
    })
    .await;
    let session = app.session(&["a", "b", "c"]).await;
    let acquired = app.pool.acquire().await.unwrap();
    assert_not_ready(&app, DATABASE_TOO_SLOW).await;
    assert_eq!(app.current(&session).await, session);
    let changed = app.change(&session, "a", json!({ "title": "t" })).await;
    assert_eq!(changed["version"], 2, "{changed}");
    drop(acquired);
    assert_ready(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_answer_faster_than_the_request_timeout() {
    let mut home = Home::with_database();
    // A request waits five minutes for a connection. The client gives up after one.
    home.set("MUSTER__DATABASE__ACQUIRE_TIMEOUT", "5m");
    home.set("MUSTER__SERVER__REQUEST_TIMEOUT", "10m");
    let server = home.serve();
    // PostgreSQL cannot be started again.
    std::fs::write(home.postgres().join("postgresql.conf"), "work_mem = plenty").unwrap();
    home.kill_postgres();
    // The first probe may find a broken connection and report that. Later probes find no
    // connection.
    for _ in 0..3 {
        let response = http().get(server.url("/readyz")).send().await.unwrap();
        assert_eq!(response.status(), 503);
        let body: Value = response.json().await.unwrap();
        let reason = body["reason"].as_str().unwrap();
        assert!(reason.starts_with("the database "), "{body}");
    }
    let log = server.running.stderr();
    // One line for the change, and none for further probes.
    let is_change = |line: &&str| line.contains("WARN") && line.contains("not ready");
    assert_eq!(log.lines().filter(is_change).count(), 1, "{log}");
}

#[test]
fn health_command_asks_the_configured_server() {
    let mut home = Home::with_database();
    home.run(&["health"]).fails(1, &["server.bind is 127.0.0.1:0", "port 0"]);
    let server = home.serve();
    home.set("MUSTER__SERVER__BIND", &server.address.to_string());
    assert_eq!(home.run(&["health"]).ok().stdout, "ready\n");
    assert_eq!(home.run(&["health", "--live"]).ok().stdout, "ok\n");

    // PostgreSQL cannot be started again.
    std::fs::write(home.postgres().join("postgresql.conf"), "work_mem = plenty").unwrap();
    home.kill_postgres();
    home.run(&["health"]).fails(1, &["not ready: the database "]);
    assert_eq!(home.run(&["health", "--live"]).ok().stdout, "ok\n");
    server.kill();
    for command in [&["health"][..], &["health", "--live"]] {
        home.run(command).fails(1, &["no Muster answers at http://127.0.0.1:"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_database_is_reported() {
    let mut home = Home::with_database();
    let server = home.serve();
    home.set("MUSTER__SERVER__BIND", &server.address.to_string());
    let status = async || {
        let response = http().get(server.url("/readyz")).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    assert_eq!(status().await.0, 200);
    for (setting, code) in [("on", 503), ("off", 200)] {
        home.set_read_only(setting).await;
        wait_until("the new setting", async || status().await.0 == code).await;
        let doctor = home.run(&["doctor"]);
        let database = doctor.stdout.lines().find(|line| line.contains("  database ")).unwrap();
        if code == 503 {
            let reason = status().await.1["reason"].to_string();
            assert!(reason.contains("read-only"), "{reason}");
            assert!(database.starts_with("FAIL") && database.contains("no writes"), "{database}");
            assert_eq!(doctor.status.code(), Some(1), "{doctor:#?}");
            home.run(&["health"]).fails(1, &["read-only"]);
        } else {
            assert!(database.starts_with("ok"), "{database}");
        }
    }
    server.stop();
}

/// A role that does not own the tables, as after a restore with PostgreSQL's own tools.
#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_reported() {
    let (other, database) = (database().await, owned_database().await);
    let options = other.options.clone().database(&database.name);
    let mut owner = Home::for_database(&other);
    owner.use_directly(&store::url(&options));
    owner.json(&["migrate"]);
    owner.json(&["app", "create", "--buin", "7", "--app-id", "mine"]);
    let key = owner.json(&["key", "create", "--buin", "7", "--app-id", "mine"]);
    let (mut connection, role) = (store::connect_with(&options).await, database.name.as_str());
    let rights = store::server_rights();
    for (right, table) in &rights {
        store::grant(&mut connection, right, table, role).await;
    }
    // The start compares the sequence with the ids of the audit.
    store::grant(&mut connection, "select", "audit_audit_id_seq", role).await;
    let mut home = Home::for_database(&database);
    let server = home.serve();
    home.set("MUSTER__SERVER__BIND", &server.address.to_string());
    let status = async || {
        let response = http().get(server.url("/readyz")).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap()["reason"].clone())
    };
    wait_until("a ready server", async || status().await.0 == 200).await;

    // The listed rights are enough.
    let client = server.plain_client(key["key"].as_str().unwrap());
    let created = client.create().await;
    let change = json!({ "sessionId": created["sessionId"], "opUser": "a", "title": "after",
                         "addMember": ["d"], "delMember": ["c"] });
    assert_eq!(client.post("update", &change).await["errcode"], 0);
    let request = http().post(server.url("/v1/sessions")).bearer_auth(&client.api_key);
    let body = json!({ "operator": "a", "title": "t", "member": ["a", "b", "c"] });
    let response = request.header("Idempotency-Key", "k").json(&body).send().await.unwrap();
    assert_eq!(response.status(), 201);
    for path in ["/v1/sessions?title=after", "/v1/sessions?member=d", "/v1/limits"] {
        let request = http().get(server.url(path)).bearer_auth(&client.api_key);
        assert_eq!(request.send().await.unwrap().status(), 200, "{path}");
    }
    for (right, table) in &rights {
        store::revoke(&mut connection, right, table, role).await;
        let reason = json!(format!("the database role lacks rights: {right} on {table}"));
        wait_until("the missing right", async || status().await == (503, reason.clone())).await;
        store::grant(&mut connection, right, table, role).await;
    }
    wait_until("a ready server", async || status().await.0 == 200).await;
    home.run(&["doctor"]).ok();
    for (right, table) in [("INSERT", "session"), ("DELETE", "idempotency")] {
        store::revoke(&mut connection, right, table, role).await;
    }
    let doctor = home.run(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(1), "{doctor:#?}");
    let line = doctor.stdout.lines().find(|line| line.contains("  database ")).unwrap();
    assert!(line.starts_with("FAIL"), "{line}");
    assert!(line.contains("lacks rights: DELETE on idempotency, INSERT on session"), "{line}");
    let output = server.stop();
    assert!(!output.stderr.contains("ERROR"), "{output:#?}");

    // The log names each cause once.
    home.set("MUSTER__SERVER__BIND", "127.0.0.1:0");
    let server = home.serve();
    let line = server.running.until_stderr("the refused deletion", |log| {
        log.lines().find(|line| line.contains("cannot delete old rows")).map(str::to_owned)
    });
    assert_eq!(line.matches("permission denied").count(), 1, "{line}");
    server.stop();
}

/// Without the setting of the connections, the session would look as if it did not exist.
#[tokio::test(flavor = "multi_thread")]
async fn filtered_and_renamed_tables_are_reported() {
    let database = owned_database().await;
    let mut home = Home::for_database(&database);
    home.set("MUSTER__CACHE__ENABLED", "false");
    home.json(&["app", "create", "--buin", "7", "--app-id", "mine"]);
    let key = home.json(&["key", "create", "--buin", "7", "--app-id", "mine"]);
    let mut connection = store::connect_with(&database.options).await;
    let server = home.serve();
    home.set("MUSTER__SERVER__BIND", &server.address.to_string());
    let client = server.plain_client(key["key"].as_str().unwrap());
    let created = client.create().await;
    let id = created["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_owned();
    let get = async |path: &str| {
        let request = http().get(server.url(path)).bearer_auth(&client.api_key);
        request.send().await.unwrap().status().as_u16()
    };
    let ready = async || {
        let response = http().get(server.url("/readyz")).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap()["reason"].clone())
    };
    let doctor = |home: &Home| {
        let doctor = home.run(&["doctor"]);
        doctor.stdout.lines().find(|line| line.contains("  database ")).unwrap().to_owned()
    };
    wait_until("a ready server", async || ready().await.0 == 200).await;
    for table in ["session", "_sqlx_migrations"] {
        store::set_row_security(&mut connection, table, true).await;
        let reason = json!(format!("row level security is on for tables of Muster: {table}"));
        wait_until("the finding", async || ready().await == (503, reason.clone())).await;
        let line = doctor(&home);
        assert!(line.starts_with("FAIL") && line.contains("row level security"), "{line}");
        if table == "session" {
            let refused = home.run(&["backup", home.parent.join("backup").to_str().unwrap()]);
            refused.fails(1, &["row-level security policy for table \"session\""]);
            for path in ["/v1/sessions", &format!("/v1/sessions/{id}")] {
                assert_eq!(get(path).await, 500, "{path}");
            }
        }
        store::set_row_security(&mut connection, table, false).await;
        wait_until("a ready server", async || ready().await.0 == 200).await;
    }
    assert_eq!(get(&format!("/v1/sessions/{id}")).await, 200);
    store::rename_table(&mut connection, "session_title", "gone").await;
    let reason = json!("the database lacks tables of Muster: session_title");
    wait_until("the finding", async || ready().await == (503, reason.clone())).await;
    let line = doctor(&home);
    assert!(line.starts_with("FAIL") && line.contains("lacks tables"), "{line}");
    store::rename_table(&mut connection, "gone", "session_title").await;
    wait_until("a ready server", async || ready().await.0 == 200).await;
    server.stop();
}

/// A copy of a table in a schema that comes first in the search path.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_hide_others_are_reported() {
    let database = database().await;
    let mut home = Home::for_database(&database);
    let server = home.serve();
    home.set("MUSTER__SERVER__BIND", &server.address.to_string());
    let mut connection = store::connect_to(&database).await;
    store::create_schema_of_role(&mut connection).await;
    let status = async || {
        let response = http().get(server.url("/readyz")).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let is_ready = async || status().await.0 == 200;
    wait_until("a ready server", is_ready).await;
    store::hide_table(&mut connection, "session").await;
    store::hide_table(&mut connection, "app").await;
    wait_until("the finding", async || {
        let (status, body) = status().await;
        let reason = body["reason"].as_str().unwrap_or_default();
        status == 503 && reason.contains("hide those of Muster") && reason.contains(".session")
    })
    .await;
    let doctor = home.run(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(1), "{doctor:#?}");
    let line = doctor.stdout.lines().find(|line| line.contains("  database ")).unwrap();
    assert!(line.starts_with("FAIL") && line.contains(".app, "), "{line}");
    store::drop_schema_of_role(&mut connection).await;
    wait_until("a ready server", is_ready).await;
    server.stop();
}

#[test]
fn rights_of_the_manual_are_those_of_the_program() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operate/external-postgresql.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, section) = page.split_once("## Rights").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    let rows = rows.filter_map(|row| row.split_once("` | "));
    let printed: Vec<_> = rows
        .flat_map(|(table, rights)| rights.split(", ").map(move |right| (right, table)))
        .collect();
    assert_eq!(printed, store::server_rights());
}
