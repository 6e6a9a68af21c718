//! Bodies that are too large or too slow are refused before they are parsed.

use std::fmt::Display;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::raw::{self, assert_closed, exchange, send_until_closed};
use crate::harness::{TestApp, refusal, spawn_app, spawn_app_with};

/// The minimum of the setting.
const MAX: usize = 1024;
const PATHS: [&str; 3] = ["/cgi/gettoken", "/cgi/session/create", "/cgi/session/update"];

fn too_large(got: impl Display) -> Value {
    refusal(100_003, &format!("body: at most 1024 bytes, got {got}"))
}

/// The plain form of a new session, filled up to `size` bytes.
fn body(size: usize) -> String {
    let body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] }).to_string();
    format!("{body}{}", " ".repeat(size - body.len()))
}

/// A request with a chunked body.
fn chunked(path: &str, chunks: &[&str]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: muster\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    for chunk in chunks {
        request += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
    }
    request += "0\r\n\r\n";
    request.into_bytes()
}

fn create_path(app: &TestApp) -> String {
    format!("/cgi/session/create?accessToken={}", app.api_key)
}

#[tokio::test(flavor = "multi_thread")]
async fn body_limit_is_exact() {
    let app = spawn_app_with(|settings| settings.limits.max_body_bytes = MAX).await;
    assert_eq!(app.post_plain("/cgi/session/create", body(MAX)).await["errcode"], 0);
    for path in PATHS {
        // Regardless of the caller and the content.
        for body in [body(MAX + 1), "x".repeat(MAX + 1), "\0".repeat(5 * MAX)] {
            let too_large = too_large(body.len());
            let response = app.client.post(path, body).await;
            assert_eq!(response.status(), 413, "{path}");
            assert_eq!(response.headers()["content-type"], "application/json");
            assert_eq!(response.json::<Value>().await.unwrap(), too_large, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_length_above_the_limit_is_refused_at_once() {
    let app = spawn_app_with(|settings| settings.limits.max_body_bytes = MAX).await;
    for length in ["1025", "99999999999", "18446744073709551615"] {
        // The body is never sent.
        let request = format!(
            "POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\nContent-Length: {length}\r\n\r\n"
        );
        let got = exchange(app.address, request.as_bytes()).await;
        assert_eq!((got.status, got.json()), (413, too_large(length)), "{length}");
        assert_eq!(
            got.header("connection"),
            Some("close"),
            "the rest of the connection is not a request"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_bodies_count_towards_the_limit() {
    let app = spawn_app_with(|settings| settings.limits.max_body_bytes = MAX).await;
    let complete = body(MAX);
    let path = create_path(&app);
    let (one, two) = complete.split_at(300);
    for chunks in [&[complete.as_str()][..], &[one, two], &[&one[..1], &one[1..], two]] {
        let got = exchange(app.address, &chunked(&path, chunks)).await;
        assert_eq!((got.status, &got.json()["errcode"]), (200, &json!(0)), "{got:?}");
    }
    for path in PATHS {
        let got = exchange(app.address, &chunked(path, &[one, two, " "])).await;
        assert_eq!((got.status, got.json()), (413, too_large("more")), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn incomplete_body_is_reported_as_incomplete() {
    let app = spawn_app().await;
    for chunks in ["5\r\n{\"bui\r\nno length\r\n", "5\r\n{\"bui--", "-1\r\n"] {
        for path in PATHS {
            let header = "HTTP/1.1\r\nHost: muster\r\nTransfer-Encoding: chunked\r\n\r\n";
            let request = format!("POST {path} {header}{chunks}");
            let got = send_until_closed(app.address, request.into_bytes()).await;
            assert_eq!(
                got.json(),
                refusal(
                    100_004,
                    "body: incomplete, the client stopped sending or the framing is invalid"
                ),
                "{got:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn default_body_limit_is_one_mebibyte() {
    let app = spawn_app().await;
    assert_eq!(app.post_plain("/cgi/session/create", body(1 << 20)).await["errcode"], 0);
    let response = app.client.post("/cgi/session/create", body((1 << 20) + 1)).await;
    assert_eq!(response.status(), 413);
    let answer = response.json::<Value>().await.unwrap();
    assert_eq!(answer, refusal(100_003, "body: at most 1048576 bytes, got 1048577"));
}

async fn spawn_impatient_app() -> TestApp {
    spawn_app_with(|settings| settings.server.body_timeout = Duration::from_millis(200)).await
}

/// The start of a request that is never completed.
fn half_request(path: &str) -> String {
    let complete = body(200);
    format!(
        "POST {path} HTTP/1.1\r\nHost: muster\r\nContent-Length: 200\r\n\r\n{}",
        &complete[..100]
    )
}

fn is_too_slow(got: &raw::RawResponse) {
    let errmsg = "body: must arrive within 200ms";
    assert_eq!((got.status, got.json()), (408, refusal(100_003, errmsg)));
    assert_eq!(got.header("connection"), Some("close"));
    assert_eq!(got.header("x-request-id").unwrap().len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn incomplete_body_times_out() {
    let app = spawn_impatient_app().await;
    let mut calls = JoinSet::new();
    for path in PATHS {
        let path = format!("{path}?accessToken={}", app.api_key);
        calls.spawn(send_until_closed(app.address, half_request(&path).into_bytes()));
    }
    calls.spawn(send_until_closed(app.address, endless("POST /cgi/gettoken")));
    calls.join_all().await.iter().for_each(is_too_slow);
    app.session(&["a", "b", "c"]).await;
}

/// A chunked body without an end.
fn endless(call: &str) -> Vec<u8> {
    let header = "HTTP/1.1\r\nHost: muster\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{call} {header}5\r\n{{\"bui\r\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_body_closes_the_connection() {
    let app = spawn_app_with(|settings| settings.limits.max_body_bytes = MAX).await;
    let mut calls = JoinSet::new();
    let mut refused = |call: &'static str, status, request| {
        let got = send_until_closed(app.address, request);
        calls.spawn(async move {
            let got = got.await;
            assert_eq!(got.status, status, "{call}");
            assert_eq!(got.header("connection"), Some("close"), "{call}");
        });
    };
    for (call, status) in [
        ("POST /nowhere", 404),
        ("PUT /cgi/gettoken", 405),
        ("GET /cgi/session/get", 200),
        ("GET /healthz", 200),
    ] {
        refused(call, status, endless(call));
    }
    let mut large = endless("POST /cgi/gettoken");
    large.extend(format!("800\r\n{}\r\n", " ".repeat(0x800)).into_bytes());
    refused("POST /cgi/gettoken", 413, large);
    calls.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn complete_chunked_body_keeps_the_connection() {
    let app = spawn_app().await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let complete = body(200);
    let request = String::from_utf8(chunked(&create_path(&app), &[&complete])).unwrap();
    let request = request.replace("Connection: close\r\n", "");
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let got = raw::read_response(&mut stream).await;
        assert_eq!((got.status, &got.json()["errcode"]), (200, &json!(0)), "{got:?}");
        assert_eq!(got.header("connection"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_on_a_reused_connection() {
    let app = spawn_impatient_app().await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let complete = half_request(&create_path(&app)) + &body(200)[100..];
    stream.write_all(complete.as_bytes()).await.unwrap();
    assert_eq!(raw::read_response(&mut stream).await.json()["errcode"], 0);
    stream.write_all(half_request("/cgi/gettoken").as_bytes()).await.unwrap();
    is_too_slow(&raw::read_response(&mut stream).await);
    assert_closed(&mut stream).await;
}
