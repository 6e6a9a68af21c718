//! What is held in memory is never older than it may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::{TestApp, spawn_app, spawn_app_with};

/// Longer than it takes to follow, on a machine that does other things as well.
const FOLLOWED: Duration = Duration::from_millis(100 + 1_000);

async fn version(client: &Client, token: &str, id: &str) -> i64 {
    let session = client.get_session(token, id).await;
    session["version"].as_i64().unwrap_or_else(|| panic!("{session}"))
}

/// Changes the title until `stop`, and tells each version that was acknowledged.
async fn change(
    client: Client,
    token: String,
    id: String,
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicI64>,
) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let title = format!("{number} {}", client.base);
        let update = json!({ "sessionId": id, "opUser": "a", "title": title });
        let changed = client.post_sealed(&token, "/cgi/session/update", &update).await;
        assert_eq!(changed["title"], title, "{changed}");
        seen.fetch_max(changed["version"].as_i64().unwrap(), Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_after_an_acknowledged_write_shows_it() {
    // Room for few sessions, so that they come and go.
    let app = spawn_app_with(|settings| settings.cache.max_bytes = 20_000).await;
    let token = app.client.token().await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        let session = app.session(&["a", "b", "c"]).await;
        ids.push(session["sessionId"].as_str().unwrap().to_owned());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = Vec::new();
    for id in &ids {
        let seen = Arc::new(AtomicI64::new(1));
        let (client, token, id) = (app.client.clone(), token.clone(), id.clone());
        let writing = change(client.clone(), token.clone(), id.clone(), stop.clone(), seen.clone());
        running.push(tokio::spawn(writing));
        let stop = stop.clone();
        running.push(tokio::spawn(async move {
            let mut reads = 0;
            while !stop.load(Ordering::Relaxed) {
                let acknowledged = seen.load(Ordering::SeqCst);
                let shown = version(&client, &token, &id).await;
                assert!(shown >= acknowledged, "{shown} after {acknowledged}");
                reads += 1;
            }
            assert!(reads > 0);
        }));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::Relaxed);
    for one in running {
        one.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_instance_wrote_is_shown_within_the_interval() {
    let app = spawn_app().await;
    let (address, _stopper) = app.another_instance().await;
    let (here, there) = (app.client.clone(), app.client.at(address));
    let token = here.token().await;
    let session = app.session(&["a", "b", "c"]).await;
    let id = session["sessionId"].as_str().unwrap().to_owned();
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = Vec::new();
    for (writer, reader) in [(here.clone(), there.clone()), (there, here)] {
        let acknowledged = Arc::new(std::sync::Mutex::new(Vec::<(Instant, i64)>::new()));
        let seen = Arc::new(AtomicI64::new(1));
        let (token, id) = (token.clone(), id.clone());
        let writing = change(writer, token.clone(), id.clone(), stop.clone(), seen.clone());
        running.push(tokio::spawn(writing));
        let noting = stop.clone();
        let noted = acknowledged.clone();
        running.push(tokio::spawn(async move {
            while !noting.load(Ordering::Relaxed) {
                noted.lock().unwrap().push((Instant::now(), seen.load(Ordering::SeqCst)));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }));
        let stop = stop.clone();
        running.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let shown = version(&reader, &token, &id).await;
                let known = acknowledged.lock().unwrap();
                let due = known.iter().rev().find(|(at, _)| *at + FOLLOWED <= asked);
                if let Some((_, due)) = due {
                    assert!(shown >= *due, "{shown} long after {due}");
                }
            }
        }));
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    stop.store(true, Ordering::Relaxed);
    for one in running {
        one.await.unwrap();
    }
}

/// The session as the database has it.
async fn stored(app: &TestApp) -> i64 {
    sqlx::query_scalar("select version from session").fetch_one(&app.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_is_not_shown_from_memory() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    assert_eq!(app.current(&session).await, session);
    // The feed breaks; a change behind its back is not told.
    for sql in [
        "alter table session_event rename column xid to was_xid",
        "update session set version = 2, title = 'behind'",
    ] {
        sqlx::query(sql).execute(&app.pool).await.unwrap();
    }
    assert_eq!(stored(&app).await, 2);
    let ask = async || -> Value { app.current(&session).await["title"].clone() };
    crate::harness::eventually(ask, &json!("behind")).await;
}
