//! Limits of connections, paths and headers.

use std::collections::VecDeque;
use std::net::SocketAddr;

use muster::config::Settings;
use muster::domain::Permission;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{CertificateFiles, SHORT_TIMEOUT, WAIT_TIMEOUT, read_until_closed};
use crate::harness::process::http;
use crate::harness::raw::{self, send_until_closed};
use crate::harness::{BUIN, TestApp, refusal, spawn_app_with, wait_until};
use crate::metrics;
use crate::metrics::scrape;

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: muster\r\n\r\n";

/// A request with a valid credential.
fn authenticated(app: &TestApp) -> Vec<u8> {
    get("/v1/limits", &format!("Authorization: Bearer {}\r\n", app.api_key))
}

/// Opens a connection that has served a request.
async fn connect(app: &TestApp, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    assert_eq!(raw::read_response(&mut stream).await.status, 200);
    stream
}

/// One thread with two slots, which one address may take.
fn with_two_slots(settings: &mut Settings) {
    settings.server.workers = 1;
    settings.server.max_connections = 2;
    settings.server.max_connections_per_address = 2;
    settings.server.header_timeout = 10 * WAIT_TIMEOUT;
    settings.server.body_timeout = 10 * WAIT_TIMEOUT;
    settings.server.keep_alive_timeout = 10 * WAIT_TIMEOUT;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_wait_until_others_close() {
    let app = spawn_app_with(|settings| {
        with_two_slots(settings);
        settings.server.max_connections_per_address = 3;
    })
    .await;
    let mut inside = Vec::new();
    for _ in 0..2 {
        // With a credential, they do not make room for others.
        inside.push(connect(&app, &authenticated(&app)).await);
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

/// Waits until the server has closed a connection, which had nothing to answer.
async fn assert_makes_room(stream: &mut TcpStream) {
    assert!(read_until_closed(stream).await.is_empty());
}

fn closed(reason: &str) -> String {
    format!("muster_connections_closed_total{{reason=\"{reason}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connection_without_a_credential_makes_room() {
    let certificate = CertificateFiles::new();
    for tls in [false, true] {
        let app = metrics::spawn_with(|settings| {
            with_two_slots(settings);
            settings.server.max_connections_per_address = 9;
            settings.server.tls = tls.then(|| certificate.files());
        })
        .await;
        // The oldest ones are silent. In the handshake, they are idle as well.
        let mut open = VecDeque::new();
        for _ in 0..2 {
            open.push_back(TcpStream::connect(app.address).await.unwrap());
            let expected = open.len() as f64;
            wait_until("the connection", async || {
                scrape(&app).await.has("muster_connections") == expected
            })
            .await;
        }
        for evicted in 1..=5 {
            open.push_back(TcpStream::connect(app.address).await.unwrap());
            assert_makes_room(&mut open.pop_front().unwrap()).await;
            wait_until("the count", async || {
                scrape(&app).await.has(&closed("evicted")) == f64::from(evicted)
            })
            .await;
        }
        assert_eq!(scrape(&app).await.has("muster_max_connections"), 2.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_served_a_request_last_stays_longest() {
    let app = spawn_app_with(|settings| {
        with_two_slots(settings);
        settings.server.max_connections_per_address = 3;
    })
    .await;
    let mut first = connect(&app, HEALTH).await;
    let mut second = connect(&app, HEALTH).await;
    first.write_all(HEALTH).await.unwrap();
    assert_eq!(raw::read_response(&mut first).await.status, 200);
    let _third = connect(&app, HEALTH).await;
    assert_makes_room(&mut second).await;
    first.write_all(HEALTH).await.unwrap();
    assert_eq!(raw::read_response(&mut first).await.status, 200, "it was used last");
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_of_any_kind_keeps_a_connection() {
    let app = spawn_app_with(|settings| {
        with_two_slots(settings);
        settings.server.max_connections_per_address = 9;
    })
    .await;
    // The connection of this client has one of the slots from now on.
    let token = app.client.token().await;
    let envelope = app.client.envelope(&app.client.clock.now().timestamp().to_string()).to_string();
    let post = |path: &str, body: &str| {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: muster\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    };
    let unknown = "sessionId=00000000-0000-7000-8000-000000000000";
    for (kind, request, stays) in [
        ("API key of /v1", authenticated(&app), true),
        ("token", get(&format!("/cgi/session/get?accessToken={token}&{unknown}"), ""), true),
        (
            "API key of /cgi",
            post(&format!("/cgi/session/create?accessToken={}", app.api_key), "{}"),
            true,
        ),
        ("token request", post("/cgi/gettoken", &envelope), true),
        ("wrong token", get(&format!("/cgi/session/get?accessToken=x&{unknown}"), ""), false),
        (
            "wrong proof",
            post("/cgi/gettoken", &envelope.replace("\"encrypt\":\"", "\"encrypt\":\"AAAA")),
            false,
        ),
        ("health", HEALTH.to_vec(), false),
    ] {
        let mut inside = connect(&app, &request).await;
        let mut outside = TcpStream::connect(app.address).await.unwrap();
        outside.write_all(HEALTH).await.unwrap();
        if stays {
            assert!(timeout(SHORT_TIMEOUT, outside.readable()).await.is_err(), "{kind}");
            inside.write_all(HEALTH).await.unwrap();
            assert_eq!(raw::read_response(&mut inside).await.status, 200, "{kind}");
        } else {
            assert_makes_room(&mut inside).await;
        }
        drop(inside);
        assert_eq!(raw::read_response(&mut outside).await.status, 200, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_connection_makes_room_while_it_is_idle_and_anonymous() {
    let app = spawn_app_with(|settings| {
        with_two_slots(settings);
        settings.server.max_connections = 1;
    })
    .await;
    for key in [None, Some(&app.api_key)] {
        let stream = TcpStream::connect(app.address).await.unwrap();
        let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get("http://muster/v1/limits");
        let request = match key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        };
        let (answer, _) = send.send_request(request.body(()).unwrap(), true).unwrap();
        let status = answer.await.unwrap().status();
        assert_eq!(status, if key.is_some() { 200 } else { 401 });
        let mut outside = TcpStream::connect(app.address).await.unwrap();
        outside.write_all(HEALTH).await.unwrap();
        if key.is_some() {
            assert!(timeout(SHORT_TIMEOUT, outside.readable()).await.is_err());
        }
        drop(send);
        // A connection that made room ends with an error.
        let _ = connection.await.unwrap();
        assert_eq!(raw::read_response(&mut outside).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn running_request_is_not_interrupted_for_another_connection() {
    let app = metrics::spawn_with(|settings| {
        with_two_slots(settings);
        settings.server.max_connections = 1;
    })
    .await;
    let mut busy = TcpStream::connect(app.address).await.unwrap();
    let start = b"POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\nContent-Length: 2\r\n\r\n{";
    busy.write_all(start).await.unwrap();
    wait_until("a running request", async || {
        scrape(&app).await.has("http_requests_in_flight") == 1.0
    })
    .await;
    let mut outside = TcpStream::connect(app.address).await.unwrap();
    outside.write_all(HEALTH).await.unwrap();
    assert!(timeout(SHORT_TIMEOUT, outside.readable()).await.is_err());
    busy.write_all(b"}").await.unwrap();
    assert_eq!(raw::read_response(&mut busy).await.status, 200);
    assert_makes_room(&mut busy).await;
    assert_eq!(raw::read_response(&mut outside).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room_for_others() {
    const MAX: usize = 100;
    let app = metrics::spawn_with(|settings| {
        settings.server.max_connections = MAX;
        // Only the limits close connections, also on a busy machine.
        settings.server.header_timeout = 10 * WAIT_TIMEOUT;
    })
    .await;
    let mut idle = Vec::new();
    for _ in 0..2 * MAX {
        idle.push(TcpStream::connect(app.address).await.unwrap());
    }
    wait_until("closed connections", async || {
        scrape(&app).await.has(&closed("address")) == (2 * MAX - MAX / 2) as f64
    })
    .await;
    for _ in 0..MAX / 2 {
        idle.push(connect_from("127.0.0.2", app.address).await);
    }
    for _ in 0..MAX / 2 {
        let mut stream = connect_from("127.0.0.3", app.address).await;
        stream.write_all(&authenticated(&app)).await.unwrap();
        assert_eq!(raw::read_response(&mut stream).await.status, 200);
        idle.push(stream);
    }
}

/// Connects from one of the loopback addresses of this machine.
async fn connect_from(source: &str, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    socket.connect(address).await.unwrap()
}

/// Whether the server serves a new connection from `source`. It is returned if so.
async fn is_served(source: &str, app: &TestApp) -> Option<TcpStream> {
    let mut stream = connect_from(source, app.address).await;
    // The server may have closed the connection already.
    let _ = stream.write_all(HEALTH).await;
    match timeout(WAIT_TIMEOUT, stream.read_u8()).await.expect("neither served nor closed") {
        Ok(_) => Some(stream),
        Err(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_an_address_are_limited() {
    let app = metrics::spawn_with(|settings| settings.server.max_connections_per_address = 3).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(is_served("127.0.0.2", &app).await.expect("within the limit"));
    }
    assert!(is_served("127.0.0.2", &app).await.is_none(), "beyond the limit");
    assert!(is_served("127.0.0.3", &app).await.is_some(), "another address");
    assert_eq!(scrape(&app).await.has(&closed("address")), 1.0);
    open.pop();
    wait_until("a free slot", async || is_served("127.0.0.2", &app).await.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_proxies_have_no_limit_of_their_own() {
    let app = spawn_app_with(|settings| {
        settings.server.max_connections_per_address = 1;
        settings.server.trusted_proxies = vec!["127.0.0.2/32".parse().unwrap()];
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(is_served("127.0.0.2", &app).await.expect("a trusted proxy"));
    }
    let _one = is_served("127.0.0.3", &app).await.expect("within the limit");
    assert!(is_served("127.0.0.3", &app).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_reachable_while_all_connections_are_in_use() {
    let app = metrics::spawn_with(|settings| {
        with_two_slots(settings);
        settings.server.max_connections_per_address = 9;
    })
    .await;
    let _inside =
        [connect(&app, &authenticated(&app)).await, connect(&app, &authenticated(&app)).await];
    let mut outside = TcpStream::connect(app.address).await.unwrap();
    outside.write_all(HEALTH).await.unwrap();
    let metrics = app.metrics.unwrap();
    // Silent connections to the metrics do not matter either.
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(metrics).await.unwrap());
    }
    for (path, status) in [("/healthz", "ok"), ("/readyz", "ready")] {
        let response = http().get(format!("http://{metrics}{path}")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["status"], status);
    }
    assert!(timeout(SHORT_TIMEOUT, outside.readable()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_an_enterprise_make_room_for_another_one() {
    const SLOTS: usize = 8;
    let app = metrics::spawn_with(|settings| {
        with_two_slots(settings);
        settings.server.max_connections = SLOTS;
        settings.server.max_connections_per_address = 3 * SLOTS;
    })
    .await;
    let (_, other_key) = app.another_app(BUIN + 1, &[Permission::SessionsRead]).await;
    let mut first = Vec::new();
    for _ in 0..SLOTS {
        first.push(connect(&app, &authenticated(&app)).await);
    }
    let other = get("/v1/limits", &format!("Authorization: Bearer {other_key}\r\n"));
    let mut second = VecDeque::new();
    for evicted in 1..=SLOTS / 2 {
        second.push_back(connect(&app, &other).await);
        assert_eq!(scrape(&app).await.has(&closed("evicted")), evicted as f64);
        assert_makes_room(&mut first.remove(0)).await;
    }
    // Both have half of the slots now. All of them still serve.
    for (streams, request) in
        [(&mut first, authenticated(&app)), (&mut Vec::from(second), other.clone())]
    {
        assert_eq!(streams.len(), SLOTS / 2);
        for stream in streams {
            stream.write_all(&request).await.unwrap();
            assert_eq!(raw::read_response(stream).await.status, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_connections_take_a_quarter_of_the_slots_from_an_enterprise() {
    const SLOTS: usize = 8;
    let app = metrics::spawn_with(|settings| {
        with_two_slots(settings);
        settings.server.max_connections = SLOTS;
        settings.server.max_connections_per_address = 3 * SLOTS;
    })
    .await;
    let mut known = Vec::new();
    for _ in 0..SLOTS {
        known.push(connect(&app, &authenticated(&app)).await);
    }
    // Anonymous connections that stay busy.
    let start = b"POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\nContent-Length: 2\r\n\r\n{";
    let mut anonymous = Vec::new();
    for running in 1..=SLOTS {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(start).await.unwrap();
        anonymous.push(stream);
        // Further ones wait.
        let running = running.min(SLOTS / 4) as f64;
        wait_until("a running request", async || {
            scrape(&app).await.has("http_requests_in_flight") == running
        })
        .await;
    }
    for stream in &mut known[..SLOTS / 4] {
        assert_makes_room(stream).await;
    }
    for stream in &mut known[SLOTS / 4..] {
        stream.write_all(&authenticated(&app)).await.unwrap();
        assert_eq!(raw::read_response(stream).await.status, 200);
    }
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
async fn headers_without_an_end_leave_memory_to_other_addresses() {
    // Half of the memory for headers holds 139 of these.
    const LENGTH: usize = 120_000;
    const FITTING: usize = 16 * 1_024 * 1_024 / LENGTH;
    const COUNT: usize = 200;
    let app = metrics::spawn_with(|settings| {
        settings.server.header_timeout = 10 * WAIT_TIMEOUT;
    })
    .await;
    let endless = padded(|headers| get("/healthz", headers), LENGTH);
    let endless = &endless[..LENGTH - 2];
    let mut open = Vec::new();
    for _ in 0..COUNT {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        // The server closes some of them at once.
        let _ = stream.write_all(endless).await;
        open.push(stream);
    }
    let count = async || scrape(&app).await.has(&closed("memory"));
    let too_many = (COUNT - FITTING) as f64;
    wait_until("the end of those that do not fit", async || count().await >= too_many).await;

    // The same header, complete, in two parts.
    let long = padded(|headers| get("/healthz", headers), 30_000);
    for (address, request) in [("127.0.0.2", &long[..]), ("127.0.0.1", HEALTH)] {
        let mut stream = connect_from(address, app.address).await;
        let (first, second) = request.split_at(request.len() * 3 / 4);
        stream.write_all(first).await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(second).await.unwrap();
        assert_eq!(raw::read_response(&mut stream).await.status, 200, "{address}");
    }
    drop(open);
    wait_until("room for another header", async || {
        let before = count().await;
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        let _ = stream.write_all(&long[..20_000]).await;
        // Nothing says that the server has read a part of a header, so the rest follows at once.
        let _ = stream.write_all(&long[20_000..]).await;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.is_ok_and(|_| status.ends_with(b"200"))
            && count().await == before
    })
    .await;
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

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_to_the_metrics_make_room() {
    let app = metrics::spawn_with(|settings| {
        settings.server.header_timeout = 10 * WAIT_TIMEOUT;
        settings.server.keep_alive_timeout = 10 * WAIT_TIMEOUT;
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..64 + 10 {
        silent.push(TcpStream::connect(app.metrics.unwrap()).await.unwrap());
    }
    for stream in &mut silent[..10] {
        assert_makes_room(stream).await;
    }
    scrape(&app).await;
}
