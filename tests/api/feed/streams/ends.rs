//! The ends of streams: the server stops, the key is not valid any more, the history is another one.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{EVENTS, EventReader, another_key, open_http2, rename};
use crate::harness::{spawn_app, spawn_app_with, store, wait_until};
use crate::metrics::{scrape, spawn};
use crate::v1::create_session;

const HOUR: Duration = Duration::from_secs(3_600);
const OPEN: &str = "muster_feed_streams";

#[tokio::test(flavor = "multi_thread")]
async fn stopping_server_ends_streams_with_a_bookmark() {
    let app = spawn_app_with(|settings| settings.server.drain_timeout = HOUR).await;
    let (address, _shutdown_signal) = app.another_instance().await;
    let (path, _) = create_session(&app, &["alice", "bob", "carol"]).await;
    let mut readers = [
        EventReader::open(&app, &format!("{EVENTS}?after=0")).await,
        open_http2(&app, &format!("{EVENTS}?after=0")).await,
    ];
    for reader in &mut readers {
        assert_eq!(reader.change().await.seq(), 1);
    }
    app.shutdown_signal.stop();
    let other = app.client.at(address);
    let mut resumed = Vec::new();
    for reader in &mut readers {
        let bookmark = reader.bookmark().await;
        assert_eq!(reader.next().await, None, "the response ends in order");
        // The client goes on at another server.
        let request = other.request(Method::GET, EVENTS).bearer_auth(&app.api_key);
        resumed.push(EventReader::from_request(request.header("last-event-id", bookmark.id)).await);
    }
    let body = json!({ "operator": "alice", "title": "next" });
    let request = other.request(Method::PATCH, &path).bearer_auth(&app.api_key).json(&body);
    assert_eq!(request.send().await.unwrap().status(), 200);
    for reader in &mut resumed {
        assert_eq!(reader.change().await.seq(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_ends_when_its_key_is_revoked_or_expires() {
    let app = spawn().await;
    let (revoked, kept) = (another_key(&app).await, another_key(&app).await);
    let open = async |key: &str| {
        let request = app.client.request(Method::GET, EVENTS).bearer_auth(key);
        let mut reader = EventReader::from_request(request).await;
        reader.bookmark().await;
        reader
    };
    let (mut ending, mut lasting) = (open(&revoked).await, open(&kept).await);
    assert_eq!(scrape(&app).await.has(OPEN), 2.0);
    store::revoke_key(&app.pool, &revoked).await;
    assert_eq!(ending.next().await, None);
    lasting.bookmark().await;
    store::expire_key(&app.pool, &kept, app.clock.now()).await;
    while lasting.next().await.is_some() {}
    wait_until("no stream is open", async || scrape(&app).await.has(OPEN) == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_of_another_history_ends_with_a_problem() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["alice", "bob", "carol"]).await;
    let mut reader = EventReader::open(&app, &format!("{EVENTS}?after=0")).await;
    let created = reader.change().await;
    store::begin_another_epoch(&app).await;
    rename(&app, &path, "t").await;
    let end = reader.next().await.unwrap();
    assert_eq!((end.name.as_str(), &end.json()["code"]), ("problem", &json!("cursor_expired")));
    assert_eq!(end.json()["status"], 410);
    assert_eq!(reader.next().await, None);
    let request = crate::v1::request(&app, Method::GET, EVENTS);
    let resumed = request.header("last-event-id", created.id).header("accept", super::MEDIA_TYPE);
    let (status, code, _) = crate::v1::problem(resumed.send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (410, "cursor_expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnected_client_frees_its_stream() {
    let app = spawn().await;
    let mut http1 = EventReader::open(&app, EVENTS).await;
    let mut http2 = open_http2(&app, EVENTS).await;
    http1.bookmark().await;
    http2.bookmark().await;
    assert_eq!(scrape(&app).await.has(OPEN), 2.0);
    assert_eq!(scrape(&app).await.has("http_requests_in_flight"), 0.0);
    drop((http1, http2));
    wait_until("no stream is open", async || scrape(&app).await.has(OPEN) == 0.0).await;
}
