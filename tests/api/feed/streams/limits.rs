//! The limits of streams: their number, and clients that do not read.

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{EVENTS, EventReader, MEDIA_TYPE, another_key};
use crate::harness::{TestApp, wait_until};
use crate::metrics::{scrape, spawn, spawn_with};
use crate::transport::slow_readers::connect_with_small_buffer;
use crate::v1::{create_session, problem, result, send};

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_an_app_and_of_an_enterprise_are_limited() {
    let app = spawn_with(|settings| {
        settings.limits.max_streams_per_app = 2;
        settings.limits.max_streams_per_enterprise = 3;
    })
    .await;
    let other_app = another_key(&app).await;
    let foreign_permissions = [muster::domain::Permission::SessionsRead];
    let (_, foreign) = app.another_app(crate::harness::BUIN + 1, &foreign_permissions).await;
    let ask = async |key: &str, accept: &str| {
        let path = format!("{EVENTS}?{}", if accept == MEDIA_TYPE { "" } else { "wait=1s" });
        let request = app.client.request(Method::GET, &path).bearer_auth(key);
        request.header("accept", accept).send().await.unwrap()
    };
    let refused = async |key: &str, accept: &str, max: usize| {
        let response = ask(key, accept).await;
        assert_eq!(response.headers()["retry-after"], "5");
        let (status, code, rest) = problem(response).await;
        assert_eq!((status, code.as_str()), (429, "too_many_requests"));
        assert_eq!(rest["limit"], max, "{rest}");
    };
    let mut open = vec![ask(&app.api_key, MEDIA_TYPE).await, ask(&app.api_key, MEDIA_TYPE).await];
    refused(&app.api_key, MEDIA_TYPE, 2).await;
    refused(&app.api_key, "application/json", 2).await;
    open.push(ask(&other_app, MEDIA_TYPE).await);
    refused(&other_app, MEDIA_TYPE, 3).await;
    open.push(ask(&foreign, MEDIA_TYPE).await);
    assert!(open.iter().all(|response| response.status() == 200));
    assert_eq!(scrape(&app).await.has("muster_feed_streams"), 4.0);
    // A page that does not wait is no stream.
    let page = app.client.request(Method::GET, EVENTS).bearer_auth(&app.api_key);
    assert_eq!(page.send().await.unwrap().status(), 200);
    open.remove(0);
    wait_until("a slot is free", async || {
        ask(&app.api_key, "application/json").await.status() == 200
    })
    .await;
}

/// The bytes that a stream may hold for a client that reads nothing: 128 KiB that the system has not sent, a part
/// of 64 KiB that the system moves at once, 64 KiB that are being written, and the queue of 64 KiB.
const MAX_STALLED_BYTES: usize = (128 + 64 + 64 + 64) * 1024;

/// Makes changes of about this many bytes in all.
async fn make_changes(app: &TestApp, path: &str, bytes: usize) {
    const ATTRIBUTE: usize = 15_000;
    for number in 0..bytes / ATTRIBUTE {
        let text = format!("{number:0>ATTRIBUTE$}");
        let body = json!({ "operator": "alice", "attributes": { "text": text } });
        result(send(app, Method::PATCH, path, &body).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_whose_client_does_not_read_is_closed_and_resumes() {
    let app = spawn().await;
    let (path, _) = create_session(&app, &["alice", "bob", "carol"]).await;
    let mut stalled = connect_with_small_buffer(&app).await;
    let request = format!(
        "GET {EVENTS}?after=0 HTTP/1.1\r\nHost: muster\r\nAuthorization: Bearer {}\r\n\
         Accept: {MEDIA_TYPE}\r\nConnection: close\r\n\r\n",
        app.api_key
    );
    stalled.write_all(request.as_bytes()).await.unwrap();
    let mut reading = EventReader::open(&app, &format!("{EVENTS}?after=0")).await;
    assert_eq!(reading.change().await.seq(), 1);
    let (mut changes, mut is_closed) = (1, false);
    while !is_closed {
        assert!(changes < 5_000, "the stream is never closed");
        make_changes(&app, &path, 300_000).await;
        changes += 20;
        // Another client reads all of them meanwhile.
        while reading.change().await.seq() < changes {}
        is_closed = scrape(&app).await.has("muster_feed_streams_closed_total") == 1.0;
    }
    assert!(scrape(&app).await.has("muster_feed_streams_behind_total") >= 1.0);
    assert!(scrape(&app).await.has("muster_feed_events_sent_total") >= changes as f64);
    // The part that the client was sent ends in order, and the next stream goes on there.
    let mut received = Vec::new();
    stalled.read_to_end(&mut received).await.ok();
    // All that waited for this client: in its own buffer, in the system, in the connection and in the queue.
    assert!(received.len() <= MAX_STALLED_BYTES, "{} bytes waited", received.len());
    let text = String::from_utf8_lossy(&received);
    let mut ids = text.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned);
    let last = ids.next_back().unwrap();
    let sent = text.matches("event: change\n").count();
    assert!(sent >= 1 && i64::try_from(sent).unwrap() < changes, "{sent}");
    let request = crate::v1::request(&app, Method::GET, EVENTS).header("last-event-id", last);
    let mut resumed = EventReader::from_request(request).await;
    assert_eq!(resumed.change().await.seq(), i64::try_from(sent).unwrap() + 1);
}
