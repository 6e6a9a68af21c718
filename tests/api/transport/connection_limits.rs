//! Limits of connections, paths and headers.

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{SHORT_TIMEOUT, WAIT_TIMEOUT};
use crate::harness::raw::{self, send_until_closed};
use crate::harness::{refusal, spawn_app_with};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: muster\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_wait_until_others_close() {
    let app = spawn_app_with(|settings| {
        settings.server.workers = 1;
        settings.server.max_connections = 2;
    })
    .await;
    let mut inside = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(HEALTH).await.unwrap();
        assert_eq!(raw::read_response(&mut stream).await.status, 200);
        inside.push(stream);
    }
    let mut outside = TcpStream::connect(app.address).await.unwrap();
    outside.write_all(HEALTH).await.unwrap();
    assert!(
        timeout(SHORT_TIMEOUT, outside.readable()).await.is_err(),
        "a connection beyond the limit was served"
    );
    inside.pop();
    let answer = timeout(WAIT_TIMEOUT, raw::read_response(&mut outside)).await;
    assert_eq!(answer.expect("no response").status, 200);
}

fn get(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: muster\r\n{headers}\r\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn long_paths_are_refused_in_the_format_of_each_api() {
    let app = spawn_app_with(|settings| settings.limits.max_uri_bytes = 1024).await;
    let padded = |path: &str, length: usize| {
        let path = format!("{path}?x=");
        format!("{path}{}", "y".repeat(length - path.len()))
    };
    let why = "path and query must have at most 1024 bytes, got 1025";
    let got = send_until_closed(app.address, get(&padded("/cgi/session/get", 1025), "")).await;
    assert_eq!((got.status, got.json()), (414, refusal(100_003, why)));

    let got = send_until_closed(app.address, get(&padded("/v1/limits", 1025), "")).await;
    assert_eq!((got.status, &got.json()["code"]), (414, &json!("uri_too_long")));
    assert_eq!(got.json()["detail"], why);
    assert_eq!((&got.json()["limit"], &got.json()["got"]), (&json!(1024), &json!(1025)));

    let close = "Connection: close\r\n";
    let got = send_until_closed(app.address, get(&padded("/cgi/session/get", 1024), close)).await;
    assert_eq!((got.status, &got.json()["errcode"]), (200, &json!(100_000)));
}

fn headers(count: usize) -> String {
    (0..count).map(|n| format!("X-{n}: y\r\n")).collect()
}

/// A request of `length` bytes, filled up with one header.
fn padded(request: impl Fn(&str) -> Vec<u8>, length: usize) -> Vec<u8> {
    let header = |bytes| format!("X-Large: {}\r\n", "y".repeat(bytes));
    request(&header(length - request(&header(0)).len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn header_limits_are_configurable() {
    let app = spawn_app_with(|settings| {
        settings.limits.max_uri_bytes = 1_024;
        settings.limits.max_header_bytes = 2_048;
        settings.limits.max_headers = 20;
    })
    .await;
    let close = |headers: &str| get("/healthz?x", &format!("Connection: close\r\n{headers}"));
    let no_path = |headers: &str| get("/cgi/nothing", &format!("Connection: close\r\n{headers}"));
    for (request, status) in [
        (padded(close, 2_048), 200),
        (padded(close, 2_049), 431),
        // The header limit is checked before the path.
        (padded(no_path, 2_049), 431),
        (close(&headers(18)), 200),
        (close(&headers(19)), 431),
    ] {
        let length = request.len();
        let got = send_until_closed(app.address, request).await;
        assert_eq!(got.status, status, "{length} bytes");
        assert!(got.header("x-request-id").is_some(), "{got:?}");
        assert_eq!(got.body.is_empty(), status == 431, "{got:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn header_limits_reach_the_framework_maximum() {
    let app = spawn_app_with(|settings| settings.limits.max_header_bytes = 131_072).await;
    let close = |headers: &str| get("/healthz", &format!("Connection: close\r\n{headers}"));
    for (request, status) in [
        (close(&headers(94)), 200),
        (close(&headers(95)), 431),
        (padded(close, 120_000), 200),
        // The unfinished header section fills the framework's buffer.
        (padded(close, 131_074)[..131_072].to_vec(), 431),
        // The path is longer than the framework's maximum.
        (get(&format!("/{}", "y".repeat(65_535)), ""), 400),
    ] {
        let length = request.len();
        assert_eq!(send_until_closed(app.address, request).await.status, status, "{length} bytes");
    }
}
