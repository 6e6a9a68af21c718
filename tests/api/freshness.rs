//! Sessions from memory are never older than allowed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use muster::cli::ShutdownSignal;
use muster::domain::Permission;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::client::Client;
use crate::harness::process::WAIT_TIMEOUT;
use crate::harness::proxy::Proxy;
use crate::harness::server::database;
use crate::harness::{
    BUIN, TestApp, settings, spawn, spawn_app, spawn_app_with, store, wait_until, wait_until_equal,
};
use crate::metrics::scrape;

/// Writers pause between bursts, so that a stale session is not corrected at once by the next
/// change.
const BURST: i64 = 5;

async fn version(client: &Client, token: &str, id: &str) -> i64 {
    let session = client.get_session(token, id).await;
    session["version"].as_i64().unwrap_or_else(|| panic!("{session}"))
}

/// Changes the title until `stop`, and reports each acknowledged version.
async fn change(
    client: Client,
    token: String,
    id: String,
    pause: Duration,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AcknowledgedVersions>,
) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let title = format!("{number} {}", client.base);
        let update = json!({ "sessionId": id, "opUser": "a", "title": title });
        let changed = client.post_sealed(&token, "/cgi/session/update", &update).await;
        assert_eq!(changed["title"], title, "{changed}");
        acknowledged.record(changed["version"].as_i64().unwrap());
        if number % BURST == 0 {
            tokio::time::sleep(pause).await;
        }
    }
}

/// The acknowledged versions of a session, and when each was acknowledged.
#[derive(Default)]
struct AcknowledgedVersions(Mutex<Vec<(Instant, i64)>>);

impl AcknowledgedVersions {
    fn record(&self, version: i64) {
        self.0.lock().unwrap().push((Instant::now(), version));
    }

    /// The last version that was acknowledged at `then`.
    fn newest_at(&self, then: Instant) -> Option<i64> {
        let acknowledged = self.0.lock().unwrap();
        acknowledged.iter().filter(|(at, _)| *at <= then).map(|(_, version)| *version).max()
    }
}

/// Reads until `count` versions were compared with the version that was acknowledged `before`
/// earlier.
async fn read(
    client: Client,
    token: String,
    id: String,
    before: Duration,
    count: u64,
    acknowledged: Arc<AcknowledgedVersions>,
) {
    let mut compared = 0;
    while compared < count {
        let due = Instant::now().checked_sub(before).and_then(|then| acknowledged.newest_at(then));
        let shown = version(&client, &token, &id).await;
        if let Some(due) = due {
            assert!(shown >= due, "version {shown} was read long after {due} was acknowledged");
            compared += 1;
        }
    }
}

/// Waits for the readers, then stops the writers.
async fn join_readers_and_stop_writers(
    reading: Vec<JoinHandle<()>>,
    writing: Vec<JoinHandle<()>>,
    stop: &AtomicBool,
) {
    let all = async {
        for task in reading {
            task.await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for task in writing {
            task.await.unwrap();
        }
    };
    tokio::time::timeout(5 * WAIT_TIMEOUT, all).await.expect("readers and writers do not end");
}

/// Checks that the cache was used, if it is enabled.
async fn assert_cache_used(app: &TestApp) {
    if app.settings.cache.enabled {
        assert!(scrape(app).await.has("muster_cache_hits_total") > 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_write_is_visible_to_reads() {
    let app = spawn_app_with(|settings| {
        // A small cache, so that sessions are evicted.
        settings.cache.max_bytes = 20_000;
        settings.metrics.bind = Some("127.0.0.1:0".to_owned());
    })
    .await;
    let token = app.client.token().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (mut writing, mut reading) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        let session = app.session(&["a", "b", "c"]).await;
        let id = session["sessionId"].as_str().unwrap().to_owned();
        let acknowledged = Arc::new(AcknowledgedVersions::default());
        let (client, token) = (&app.client, &token);
        let pause = Duration::from_millis(20);
        let change = change(
            client.clone(),
            token.clone(),
            id.clone(),
            pause,
            stop.clone(),
            acknowledged.clone(),
        );
        writing.push(tokio::spawn(change));
        let read = read(client.clone(), token.clone(), id, Duration::ZERO, 50, acknowledged);
        reading.push(tokio::spawn(read));
    }
    join_readers_and_stop_writers(reading, writing, &stop).await;
    assert_cache_used(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_another_instance_are_visible_within_the_interval() {
    let app =
        spawn_app_with(|settings| settings.metrics.bind = Some("127.0.0.1:0".to_owned())).await;
    let interval = app.settings.cache.follow_interval;
    let (address, _shutdown_signal) = app.another_instance().await;
    let (first_server, second_server) = (app.client.clone(), app.client.at(address));
    let token = first_server.token().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (mut writing, mut reading) = (Vec::new(), Vec::new());
    // Both servers change one session. Then each server changes a session that the other only
    // reads.
    for writers in [[&first_server, &second_server].as_slice(), &[&first_server], &[&second_server]]
    {
        let session = app.session(&["a", "b", "c"]).await;
        let id = session["sessionId"].as_str().unwrap().to_owned();
        let acknowledged = Arc::new(AcknowledgedVersions::default());
        for writer in writers {
            let (writer, token, id) = (Client::clone(writer), token.clone(), id.clone());
            let change =
                change(writer, token, id, 3 * interval, stop.clone(), acknowledged.clone());
            writing.push(tokio::spawn(change));
        }
        for reader in [&first_server, &second_server] {
            let (reader, token, id) = (reader.clone(), token.clone(), id.clone());
            let read = read(reader, token, id, interval, 300, acknowledged.clone());
            reading.push(tokio::spawn(read));
        }
    }
    join_readers_and_stop_writers(reading, writing, &stop).await;
    assert_cache_used(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_statement_does_not_hide_a_later_change() {
    let mut settings = settings();
    settings.server.workers = 1;
    let database = database().await;
    let proxy = Proxy::on_unix_socket(&database.options);
    let app = spawn(settings, database, |options| proxy.options_through(options)).await;
    let (address, _shutdown_signal) = app.another_instance().await;
    let other_server = app.client.at(address);
    let session = app.session(&["a", "b", "c"]).await;
    let id = session["sessionId"].as_str().unwrap();
    let token = other_server.token().await;
    // The session is read and followed here. The next new connection is the one for changes.
    app.current(&session).await;
    let number = proxy.next_connection();
    assert_eq!(app.change(&session, "a", json!({ "title": "2" })).await["version"], 2);
    assert_eq!(proxy.next_connection(), number + 1, "changes have one connection");

    proxy.delay_responses(Some(number));
    let (late, ()) = tokio::join!(app.change(&session, "a", json!({ "title": "3" })), async {
        wait_until_equal(async || stored(&app).await.into(), &json!(3)).await;
        let update = json!({ "sessionId": id, "opUser": "a", "title": "4" });
        let changed = other_server.post_sealed(&token, "/cgi/session/update", &update).await;
        assert_eq!(changed["version"], 4, "{changed}");
        // This server learns of the fourth version before the response to the third.
        wait_until_equal(async || app.current(&session).await["version"].clone(), &json!(4)).await;
        proxy.delay_responses(None);
    });
    assert_eq!(late["version"], 3, "{late}");
    assert_eq!(app.current(&session).await["version"], 4);
}

/// The version in the database.
async fn stored(app: &TestApp) -> i64 {
    store::stored_version(app).await
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_is_not_served_without_synchronization() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    assert_eq!(app.current(&session).await, session);
    // The feed breaks, so the server does not learn of a direct change.
    store::break_feed(&app).await;
    store::overwrite_session(&app, session["sessionId"].as_str().unwrap(), "directly").await;
    assert_eq!(stored(&app).await, 2);
    let title = async || -> Value { app.current(&session).await["title"].clone() };
    wait_until_equal(title, &json!("directly")).await;
}

/// Reads a session by REST with this header on a server. Returns the status and the body.
async fn read_from_version(
    client: &Client,
    api_key: &str,
    path: &str,
    min: Option<&str>,
) -> (u16, Value) {
    let builder = client.request(Method::GET, path).bearer_auth(api_key);
    let builder = match min {
        Some(min) => builder.header("Muster-Min-Version", min),
        None => builder,
    };
    let response = builder.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Two servers, of which the first learns nothing of the other's changes for as long as the test
/// lasts. The session has version 1 in the memory of the first server, and version 2 in the database.
struct StaleServer {
    app: TestApp,
    /// The path of the session.
    path: String,
    _other: ShutdownSignal,
}

impl StaleServer {
    async fn start() -> Self {
        let app = spawn_app_with(|settings| {
            settings.cache.follow_interval = Duration::from_secs(7_200);
            settings.metrics.bind = Some("127.0.0.1:0".to_owned());
        })
        .await;
        let (address, other) = app.another_instance().await;
        let session = app.session(&["a", "b", "c"]).await;
        let path = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
        let path = format!("/v1/sessions/{path}");
        let is_cached = async || {
            let hits = scrape(&app).await.has("muster_cache_hits_total");
            let read = read_from_version(&app.client, &app.api_key, &path, None).await;
            assert_eq!((read.0, &read.1["version"]), (200, &json!(1)));
            scrape(&app).await.has("muster_cache_hits_total") > hits
        };
        if app.settings.cache.enabled {
            wait_until("the session is in memory", is_cached).await;
        }
        let change = app.client.at(address).request(Method::PATCH, &path);
        let change = change.json(&json!({ "operator": "a", "title": "2" }));
        let changed = change.bearer_auth(&app.api_key).send().await.unwrap();
        assert_eq!(changed.headers()["etag"], "\"2\"");
        Self { app, path, _other: other }
    }

    async fn read(&self, min: Option<&str>) -> (u16, Value) {
        read_from_version(&self.app.client, &self.app.api_key, &self.path, min).await
    }

    /// The version that is read.
    async fn version(&self, min: Option<&str>) -> i64 {
        let (status, session) = self.read(min).await;
        assert_eq!(status, 200, "{session}");
        session["version"].as_i64().unwrap()
    }

    /// Whether a session that is read comes from memory.
    async fn is_read_from_memory(&self, min: Option<&str>, version: i64) -> bool {
        let hits = scrape(&self.app).await.has("muster_cache_hits_total");
        assert_eq!(self.version(min).await, version);
        scrape(&self.app).await.has("muster_cache_hits_total") > hits
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_is_at_least_as_fresh_as_the_version_of_its_request() {
    let server = StaleServer::start().await;
    if server.app.settings.cache.enabled {
        // The memory is old enough for its readers, and is not read for the others.
        assert!(server.is_read_from_memory(None, 1).await);
        assert!(server.is_read_from_memory(Some("1"), 1).await);
        assert!(!server.is_read_from_memory(Some("2"), 2).await);
        assert!(server.is_read_from_memory(Some("2"), 2).await);
        assert!(server.is_read_from_memory(None, 2).await);
    }
    assert_eq!(server.version(Some("2")).await, 2);
    let head = server.app.client.request(Method::HEAD, &server.path);
    let head = head.bearer_auth(&server.app.api_key).header("Muster-Min-Version", "3");
    assert_eq!(head.send().await.unwrap().status(), 412);
}

#[tokio::test(flavor = "multi_thread")]
async fn condition_of_a_read_is_compared_with_the_fresh_session() {
    let server = StaleServer::start().await;
    for (min, tag, status) in [("2", "\"1\"", 200), ("2", "\"2\"", 304)] {
        let builder = server.app.client.request(Method::GET, &server.path);
        let builder = builder.bearer_auth(&server.app.api_key).header("Muster-Min-Version", min);
        let response = builder.header("If-None-Match", tag).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["etag"]),
            (status, &"\"2\"".parse().unwrap())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn version_that_the_database_does_not_have_is_refused() {
    let server = StaleServer::start().await;
    let (path, key) = (&server.path, &server.app.api_key);
    let members =
        [format!("{path}/members"), format!("{path}/members/b"), format!("{path}/members/x")];
    for path in members.iter().chain([path]) {
        let (status, found) = read_from_version(&server.app.client, key, path, Some("3")).await;
        assert_eq!((status, &found["code"]), (412, &json!("version_not_reached")), "{path}");
        assert_eq!(found["field"], "Muster-Min-Version");
        assert_eq!(found["currentVersion"], 2, "{found}");
        let detail = "Muster-Min-Version: must be at most 2, the version of the session, got 3";
        assert_eq!(found["detail"], detail);
    }
    // The members are always read from the database.
    for (path, min, status) in
        [(&members[0], "2", 200), (&members[1], "2", 200), (&members[2], "2", 404)]
    {
        let (found, body) = read_from_version(&server.app.client, key, path, Some(min)).await;
        assert_eq!(found, status, "{path}: {body}");
    }
    // An unknown session has no version, and that of another enterprise shows none.
    let unknown = "/v1/sessions/00000000-0000-7000-8000-000000000001";
    let (_, foreign) = server.app.another_app(BUIN + 1, &[Permission::SessionsRead]).await;
    for (path, key) in [(unknown, key), (path.as_str(), &foreign)] {
        for min in ["1", "2", "3"] {
            let (status, found) = read_from_version(&server.app.client, key, path, Some(min)).await;
            assert_eq!((status, &found["code"]), (404, &json!("session_not_found")), "{min}");
        }
    }
    for (query, min, reason) in [
        ("", "0", "at least 1, got 0"),
        ("", "two", "must be a version such as 3, got \"two\""),
        ("?version=1", "1", "must not be combined with version"),
        ("?at=2020-01-01T00:00:00Z", "1", "must not be combined with at"),
    ] {
        let path = format!("{path}{query}");
        let (status, found) = read_from_version(&server.app.client, key, &path, Some(min)).await;
        assert_eq!((status, &found["code"]), (400, &json!("invalid_header")), "{path}");
        assert_eq!(found["detail"], format!("Muster-Min-Version: {reason}"));
    }
}
