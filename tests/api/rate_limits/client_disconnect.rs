//! Requests of disconnected clients are never started.

use actix_web::web::Bytes;
use h2::{Reason, client};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{cgi, new_session, until_locked, until_queued, with_one_connection};
use crate::harness::store::{count_sessions, lock_sessions};
use crate::harness::{TestApp, raw, refusal, spawn_app_with, wait_until};
use crate::metrics::scrape;

/// Sends a plain request on a new connection: a `POST` if it has a body, else a `GET`.
async fn send_request(app: &TestApp, call: &str, query: &str, body: &str) -> TcpStream {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let request = format!(
        "{method} /cgi/session/{call}?accessToken={}{query} HTTP/1.1\r\nHost: muster\r\n\
         Content-Length: {}\r\n\r\n{body}",
        app.api_key,
        body.len()
    );
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Waits until this number of requests of a call were abandoned.
async fn until_abandoned(app: &TestApp, method: &str, call: &str, count: u32) {
    let labels = format!("route=\"/cgi/session/{call}\",method=\"{method}\",status=\"4xx\"");
    let series = format!("http_requests_total{{{labels}}}");
    wait_until("abandoned requests", async || scrape(app).await.value(&series) == f64::from(count))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_request_is_not_started() {
    let app = spawn_app_with(with_one_connection).await;
    let locked = lock_sessions(&app).await;
    let body = new_session().to_string();
    let (first, ()) = tokio::join!(cgi(&app, "create", "", Some(new_session())), async {
        until_locked(&app).await;
        let mut half_closed = send_request(&app, "create", "", &body).await;
        let closed = send_request(&app, "create", "", &body).await;
        let staying = cgi(&app, "create", "", Some(new_session()));
        let (staying, ()) = tokio::join!(staying, async {
            until_queued(&app, "create", 3).await;
            drop(closed);
            half_closed.shutdown().await.unwrap();
            // A client that only closed its sending side still gets a response.
            let response = raw::read_response(&mut half_closed).await;
            let why = "the client closed the connection before the response; the outcome is \
                       unknown";
            assert_eq!((response.status, response.json()), (499, refusal(-1, why)));
            until_abandoned(&app, "POST", "create", 2).await;
            drop(locked);
        });
        assert_eq!(staying.body["errcode"], 0, "{staying:?}");
    });
    assert_eq!(first.body["errcode"], 0, "{first:?}");
    assert_eq!(count_sessions(&app.pool).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_change_or_read_is_not_started() {
    let app = spawn_app_with(with_one_connection).await;
    let session = app.session(&["a", "b", "c"]).await;
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_owned();
    let locked = lock_sessions(&app).await;
    let update = |title: &str| json!({ "sessionId": id, "opUser": "a", "title": title });
    let query = format!("&sessionId={id}");
    let update_first = cgi(&app, "update", "", Some(update("first")));
    let (updated, read, ()) = tokio::join!(update_first, cgi(&app, "get", &query, None), async {
        until_locked(&app).await;
        until_queued(&app, "update", 0).await;
        until_queued(&app, "read", 0).await;
        let updating = send_request(&app, "update", "", &update("second").to_string()).await;
        let reading = send_request(&app, "get", &query, "").await;
        until_queued(&app, "update", 1).await;
        until_queued(&app, "read", 1).await;
        drop((updating, reading));
        until_abandoned(&app, "POST", "update", 1).await;
        until_abandoned(&app, "GET", "get", 1).await;
        drop(locked);
    });
    assert_eq!([&updated.body["errcode"], &read.body["errcode"]], [0, 0], "{updated:?} {read:?}");
    let now = app.get(&id).await;
    assert_eq!((&now["title"], &now["version"]), (&json!("first"), &json!(2)));
    let metrics = scrape(&app).await;
    assert_eq!(metrics.has("muster_queue_length{kind=\"read\"}"), 0.0);
    // The first change, the first read and the read just now. Abandoned requests are not in a
    // statement.
    assert_eq!(metrics.has("muster_statement_items_sum{kind=\"read\"}"), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_or_disconnected_streams_are_abandoned() {
    let app = spawn_app_with(with_one_connection).await;
    let locked = lock_sessions(&app).await;
    let path = format!("http://muster/cgi/session/create?accessToken={}", app.api_key);
    let post = || http::Request::post(&path).body(()).unwrap();
    let (first, ()) = tokio::join!(cgi(&app, "create", "", Some(new_session())), async {
        until_locked(&app).await;
        let stream = TcpStream::connect(app.address).await.unwrap();
        let (mut send, connection) = client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut streams = Vec::new();
        for _ in 0..3 {
            let (answer, mut body) = send.send_request(post(), false).unwrap();
            body.send_data(Bytes::from(new_session().to_string()), true).unwrap();
            streams.push((answer, body));
        }
        until_queued(&app, "create", 3).await;
        streams[1].1.send_reset(Reason::CANCEL);
        until_abandoned(&app, "POST", "create", 1).await;
        connection.abort();
        until_abandoned(&app, "POST", "create", 3).await;
        drop(locked);
    });
    let created: &Value = &first.body["errcode"];
    assert_eq!((created, count_sessions(&app.pool).await), (&json!(0), 1), "{first:?}");
}
