//! A server that stops: it drains, then closes its connections. Every request that it reads is answered.

use std::time::Duration;

use actix_web::web::Bytes;
use h2::client::{self, SendRequest};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{CertificateFiles, WAIT_TIMEOUT, read_until_closed, spawn_tls_app};
use crate::harness::process::{http, plain_http};
use crate::harness::{TestApp, raw, spawn_app_with, store, wait_until};
use crate::metrics::{scrape, spawn_with};

const HOUR: Duration = Duration::from_secs(3_600);
const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: muster\r\n\r\n";
/// A response that exceeds the buffers of the system.
const LARGE: &str = "/v1/openapi.json";

/// A connection that has served a request and can be used again.
async fn kept_connection(app: &TestApp) -> TcpStream {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(HEALTH).await.unwrap();
    let response = raw::read_response(&mut stream).await;
    assert_eq!((response.status, response.header("connection")), (200, None));
    stream
}

/// Begins the stop, and waits until the server refuses connections.
async fn stop_accepting(app: &TestApp) {
    app.shutdown_signal.stop();
    app.shutdown_signal.end_drain();
    wait_until("new connections are refused", async || {
        TcpStream::connect(app.address).await.is_err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_server_answers_and_asks_clients_to_close() {
    let app = spawn_with(|settings| settings.server.drain_timeout = HOUR).await;
    let (mut kept, mut idle) = (kept_connection(&app).await, kept_connection(&app).await);
    app.shutdown_signal.stop();
    for address in [app.address, app.metrics.unwrap()] {
        let readiness = async || {
            let response = http().get(format!("http://{address}/readyz")).send().await.unwrap();
            (response.status().as_u16(), response.json::<Value>().await.unwrap())
        };
        wait_until("the drain", async || readiness().await.0 == 503).await;
        let reason = "the server is stopping";
        let expected = json!({ "status": "not ready", "reason": reason });
        assert_eq!(readiness().await, (503, expected));
    }
    let live = http().get(format!("http://{}/healthz", app.address)).send().await.unwrap();
    assert_eq!(live.status(), 200, "a draining server needs no restart");

    // On a new connection.
    let response = raw::send_until_closed(app.address, HEALTH.to_vec()).await;
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    // On an open connection.
    kept.write_all(HEALTH).await.unwrap();
    let response = raw::read_response(&mut kept).await;
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    raw::assert_closed(&mut kept).await;
    // Over HTTP/2.
    let client = plain_http().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}/cgi/session/create?accessToken={}", app.address, app.api_key);
    for _ in 0..2 {
        let body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] }).to_string();
        let session: Value =
            client.post(&url).body(body).send().await.unwrap().json().await.unwrap();
        assert_eq!(session["errcode"], 0, "{session}");
    }

    app.shutdown_signal.end_drain();
    raw::assert_closed(&mut idle).await;
    stop_accepting(&app).await;
}

/// The beginning of a request whose body is missing, and the body.
fn create(app: &TestApp) -> (String, String) {
    let body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] }).to_string();
    let head = format!(
        "POST /cgi/session/create?accessToken={} HTTP/1.1\r\nHost: muster\r\nContent-Length: {}\r\n\r\n",
        app.api_key,
        body.len()
    );
    (head, body)
}

/// Sends the head of a request, stops the server, sends the body, and expects the answer.
async fn finish_while_closing(app: &TestApp, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let (head, body) = create(app);
    stream.write_all(head.as_bytes()).await.unwrap();
    wait_until("the request runs", async || {
        scrape(app).await.has("http_requests_in_flight") == 1.0
    })
    .await;
    stop_accepting(app).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let response = raw::read_response(stream).await;
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(response.json()["errcode"], 0);
    assert!(read_until_closed(stream).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_arrives_in_parts_is_answered_by_a_closing_server() {
    let app = spawn_with(|settings| settings.server.body_timeout = HOUR / 10).await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    finish_while_closing(&app, &mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_arrives_in_parts_over_tls_is_answered_by_a_closing_server() {
    let certificate = CertificateFiles::new();
    let app = spawn_tls_app(&certificate, |settings| {
        settings.metrics.bind = Some("127.0.0.1:0".to_owned());
        settings.server.body_timeout = HOUR / 10;
    })
    .await;
    let mut stream = certificate.connect(app.address, "http/1.1").await;
    finish_while_closing(&app, &mut stream).await;
}

/// Requests a large response, stops the server before the response has been read, and expects all of
/// it.
async fn read_while_closing(app: &TestApp, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let request = format!("GET {LARGE} HTTP/1.1\r\nHost: muster\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 1];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(scrape(app).await.has("http_requests_in_flight"), 1.0, "the response waits");
    stop_accepting(app).await;
    let rest = read_until_closed(stream).await;
    let response = [&first[..], &rest].concat();
    let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&response[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), response.len() - end);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_waits_until_a_response_is_written() {
    let app = spawn_with(|settings| settings.server.shutdown_timeout = HOUR).await;
    let mut stream = super::slow_readers::connect_with_small_buffer(&app).await;
    read_while_closing(&app, &mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_waits_until_a_response_is_written_over_tls() {
    let certificate = CertificateFiles::new();
    let app = spawn_tls_app(&certificate, |settings| {
        settings.metrics.bind = Some("127.0.0.1:0".to_owned());
        settings.server.shutdown_timeout = HOUR;
    })
    .await;
    let mut stream = certificate.connect(app.address, "http/1.1").await;
    read_while_closing(&app, &mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_waits_until_a_response_of_http2_is_written() {
    let app = spawn_with(|settings| settings.server.shutdown_timeout = HOUR).await;
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (mut send, connection): (SendRequest<Bytes>, _) = client::handshake(stream).await.unwrap();
    let ended = tokio::spawn(connection);
    let request = http::Request::get(format!("http://muster{LARGE}")).body(()).unwrap();
    let (answer, _) = send.send_request(request, true).unwrap();
    let answer = answer.await.unwrap();
    let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(scrape(&app).await.has("http_requests_in_flight"), 1.0, "the response waits");
    stop_accepting(&app).await;
    let mut body = answer.into_body();
    let mut received = 0;
    while let Some(chunk) = timeout(WAIT_TIMEOUT, body.data()).await.unwrap() {
        let chunk = chunk.unwrap();
        received += chunk.len();
        body.flow_control().release_capacity(chunk.len()).unwrap();
    }
    assert_eq!(received, length);
    drop((send, body));
    timeout(WAIT_TIMEOUT, ended).await.expect("the connection stays open").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn request_after_the_last_response_of_a_connection_is_not_done() {
    let app = spawn_with(|settings| settings.server.drain_timeout = HOUR).await;
    let (head, body) = create(&app);
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    app.shutdown_signal.stop();
    wait_until("the drain", async || {
        http().get(format!("http://{}/readyz", app.address)).send().await.unwrap().status() == 503
    })
    .await;
    // The client sends more requests before it reads a response.
    stream.write_all(format!("{head}{body}").repeat(5).as_bytes()).await.unwrap();
    let response = raw::read_response(&mut stream).await;
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert_eq!(response.json()["errcode"], 0);
    read_until_closed(&mut stream).await;
    assert_eq!(store::count_sessions(&app.pool).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_hold_a_stop() {
    let app = spawn_app_with(|settings| settings.server.shutdown_timeout = HOUR).await;
    let mut silent = TcpStream::connect(app.address).await.unwrap();
    let mut begun = TcpStream::connect(app.address).await.unwrap();
    begun.write_all(&HEALTH[..9]).await.unwrap();
    let mut idle = kept_connection(&app).await;
    app.shutdown_signal.stop();
    for stream in [&mut silent, &mut begun, &mut idle] {
        assert!(read_until_closed(stream).await.is_empty());
    }
}
