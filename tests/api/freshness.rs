//! Sessions from memory are never older than allowed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::client::Client;
use crate::harness::process::WAIT_TIMEOUT;
use crate::harness::proxy::Proxy;
use crate::harness::server::database;
use crate::harness::{
    TestApp, settings, spawn, spawn_app, spawn_app_with, store, wait_until_equal,
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
        for one in reading {
            one.await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for one in writing {
            one.await.unwrap();
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
    store::rename_xid_column(&app).await;
    store::overwrite_session(&app, session["sessionId"].as_str().unwrap(), "directly").await;
    assert_eq!(stored(&app).await, 2);
    let title = async || -> Value { app.current(&session).await["title"].clone() };
    wait_until_equal(title, &json!("directly")).await;
}
