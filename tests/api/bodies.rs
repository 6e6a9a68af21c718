//! Bodies of requests: read only if the caller is known, and within a budget of memory.

use std::time::Duration;

use actix_web::web::Bytes;
use h2::{Reason, client};
use muster::config::Settings;
use muster::domain::Permission;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::process::WAIT_TIMEOUT;
use crate::harness::raw::{self, RawResponse, send_until_closed};
use crate::harness::{BUIN, TestApp, refusal, spawn_app, spawn_app_with, store, wait_until};
use crate::metrics::{scrape, spawn_with};

const IN_FLIGHT: &str = "muster_request_body_in_flight_bytes";
const REJECTED: &str = "muster_request_bodies_rejected_total";
/// More than Muster reads of a body that it does not want.
const LARGE: usize = 1 << 20;

/// The size of a body in the tests of the budget, and the budget.
const BODY: usize = 100_000;
const BUDGET: usize = 4 * BODY;

/// No part of a request times out.
pub fn without_timeouts(settings: &mut Settings) {
    settings.server.header_timeout = 10 * WAIT_TIMEOUT;
    settings.server.body_timeout = 10 * WAIT_TIMEOUT;
}

fn with_small_budget(settings: &mut Settings) {
    without_timeouts(settings);
    settings.limits.max_body_bytes = BODY;
    settings.limits.max_body_bytes_in_flight = BUDGET;
}

/// The header section of a `POST`.
pub fn head(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: muster\r\n{headers}\r\n")
}

fn create_path(key: &str) -> String {
    format!("/cgi/session/create?accessToken={key}")
}

/// A new session, filled up to `size` bytes.
pub fn body(size: usize) -> String {
    let body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] }).to_string();
    format!("{body}{}", " ".repeat(size - body.len()))
}

/// Requests that are refused by their header: path, headers, and the code of the refusal.
pub fn refused_by_header(app: &TestApp, denied: &str) -> Vec<(String, String, Value)> {
    let cgi = |key: &str| create_path(key);
    let bearer = |key: &str| format!("Authorization: Bearer {key}\r\n");
    vec![
        (cgi(""), String::new(), json!(100_000)),
        (cgi("msk_unknown"), String::new(), json!(100_001)),
        (cgi("forged"), String::new(), json!(100_001)),
        (cgi(denied), String::new(), json!(3)),
        ("/cgi/session/update".to_owned(), bearer("forged"), json!(100_001)),
        (
            "/cgi/session/update?accessToken=a&accessToken=b".to_owned(),
            String::new(),
            json!(100_003),
        ),
        ("/v1/sessions".to_owned(), String::new(), json!("missing_api_key")),
        ("/v1/sessions".to_owned(), bearer("msk_unknown"), json!("invalid_api_key")),
        ("/v1/sessions".to_owned(), bearer(denied), json!("missing_permission")),
        ("/v1/sessions/batch".to_owned(), String::new(), json!("missing_api_key")),
        (
            format!("/v1/sessions/5/members?{}", app.api_key),
            String::new(),
            json!("method_not_allowed"),
        ),
    ]
}

pub fn code(got: &RawResponse) -> Value {
    let body = got.json();
    body.get("errcode").or_else(|| body.get("code")).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_is_refused_before_a_large_body_arrives() {
    let app = spawn_with(without_timeouts).await;
    let (_, denied) = app.another_app(BUIN, &[Permission::Callbacks]).await;
    for (path, headers, expected) in refused_by_header(&app, &denied) {
        // A part of the body is there, and the rest never comes.
        let announced = head(&path, &format!("{headers}Content-Length: {LARGE}\r\n"));
        let chunks = format!("{:x}\r\n{}\r\n", LARGE / 4, " ".repeat(LARGE / 4));
        let chunked = head(&path, &format!("{headers}Transfer-Encoding: chunked\r\n")) + &chunks;
        for request in [announced + &" ".repeat(LARGE / 2), chunked] {
            let mut stream = TcpStream::connect(app.address).await.unwrap();
            let (mut reader, mut writer) = stream.split();
            // The server may close the connection before all is sent.
            let sending = async { drop(writer.write_all(request.as_bytes()).await) };
            let (got, ()) = tokio::join!(raw::read_response(&mut reader), sending);
            assert_eq!(code(&got), expected, "{path} {headers}");
            assert_eq!(got.header("connection"), Some("close"), "{path} {headers}");
        }
    }
    assert_eq!(scrape(&app).await.has(IN_FLIGHT), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_many_anonymous_callers_take_no_memory() {
    let app = spawn_with(without_timeouts).await;
    let request = head("/cgi/session/create", "Content-Length: 16000\r\n") + &" ".repeat(15_000);
    let mut anonymous = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        anonymous.push(stream);
    }
    wait_until("200 running requests", async || {
        scrape(&app).await.has("http_requests_in_flight") == 200.0
    })
    .await;
    assert_eq!(scrape(&app).await.has(IN_FLIGHT), 0.0);
    // A short body is read to its end, so that the client can read the response.
    for stream in &mut anonymous {
        stream.write_all(" ".repeat(1_000).as_bytes()).await.unwrap();
        let got = raw::read_response(stream).await;
        assert_eq!((code(&got), got.header("connection")), (json!(100_000), None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_caller_with_a_short_body_keeps_its_connection() {
    let app = spawn_app().await;
    let (_, denied) = app.another_app(BUIN, &[Permission::Callbacks]).await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    for (path, headers, expected) in refused_by_header(&app, &denied) {
        if expected == "method_not_allowed" {
            continue;
        }
        let content = body(200);
        let announced = head(&path, &format!("{headers}Content-Length: 200\r\n")) + &content;
        let chunked = head(&path, &format!("{headers}Transfer-Encoding: chunked\r\n"))
            + &format!("c8\r\n{content}\r\n0\r\n\r\n");
        for request in [announced, chunked] {
            stream.write_all(request.as_bytes()).await.unwrap();
            let got = raw::read_response(&mut stream).await;
            assert_eq!((code(&got), got.header("connection")), (expected.clone(), None), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_request_has_at_most_4_kib() {
    let app = spawn_app().await;
    let envelope = app.client.envelope(&app.client.clock.now().timestamp().to_string()).to_string();
    let padded = |size: usize| format!("{envelope}{}", " ".repeat(size - envelope.len()));
    let granted = app.client.open_response(app.client.post("/cgi/gettoken", padded(4_096)).await);
    assert_eq!(granted.await["errcode"], 0);
    let too_large = |got| refusal(100_003, &format!("body: at most 4096 bytes, got {got}"));
    let response = app.client.post("/cgi/gettoken", padded(4_097)).await;
    assert_eq!(response.status(), 413);
    assert_eq!(response.json::<Value>().await.unwrap(), too_large("4097"));
    let chunked = head("/cgi/gettoken", "Transfer-Encoding: chunked\r\n")
        + &format!("1001\r\n{}\r\n", padded(4_097));
    let got = send_until_closed(app.address, chunked.into_bytes()).await;
    assert_eq!((got.status, got.json()), (413, too_large("more")));
}

/// Waits until the bodies in flight have this many bytes.
async fn until_in_flight(app: &TestApp, bytes: usize) {
    wait_until(&format!("{bytes} bytes in flight"), async || {
        scrape(app).await.has(IN_FLIGHT) == bytes as f64
    })
    .await;
}

/// Begins a create with an announced body, of which half is sent.
async fn begin(app: &TestApp, key: &str) -> TcpStream {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let request = head(&create_path(key), &format!("Content-Length: {BODY}\r\n"));
    stream.write_all((request + &body(BODY)[..BODY / 2]).as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn enterprise_may_hold_as_much_memory_for_bodies_as_remains_free() {
    let app = spawn_with(with_small_budget).await;
    let (_, other_key) = app.another_app(BUIN + 1, &[Permission::SessionsWrite]).await;
    let (_, same_enterprise) = app.another_app(BUIN, &[Permission::SessionsWrite]).await;
    let mut one = begin(&app, &app.api_key).await;
    let two = begin(&app, &same_enterprise).await;
    until_in_flight(&app, 2 * BODY).await;

    let text = "running requests hold too many bytes of bodies, try again";
    for key in [&app.api_key, &same_enterprise] {
        let response = app.client.post(&create_path(key), body(100)).await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer, refusal(-1, &format!("body: {text}")));
        let rest = app.client.request(Method::POST, "/v1/sessions").bearer_auth(key);
        let response = rest.json(&json!({})).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (503, &"1".parse().unwrap())
        );
        let problem: Value = response.json().await.unwrap();
        assert_eq!((&problem["code"], &problem["field"]), (&json!("overloaded"), &json!("body")));
    }
    assert_eq!(scrape(&app).await.has(REJECTED), 4.0);
    // Requests without a body, and bodies of others, have their place.
    let unknown = app.get("00000000-0000-7000-8000-000000000000").await;
    assert_eq!(unknown["errcode"], 400_003);
    let created = app.client.post(&create_path(&other_key), body(BODY)).await;
    assert_eq!(created.json::<Value>().await.unwrap()["errcode"], 0);
    assert_eq!(app.client.gettoken().await["errcode"], 0);

    one.write_all(&body(BODY).as_bytes()[BODY / 2..]).await.unwrap();
    assert_eq!(raw::read_response(&mut one).await.json()["errcode"], 0);
    until_in_flight(&app, BODY).await;
    app.session(&["a", "b", "c"]).await;
    drop(two);
    until_in_flight(&app, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn growing_body_is_refused_when_it_no_longer_fits() {
    let app = spawn_with(with_small_budget).await;
    let (_, other_key) = app.another_app(BUIN + 1, &[Permission::SessionsWrite]).await;
    let _holding = begin(&app, &app.api_key).await;
    until_in_flight(&app, BODY).await;
    let mut growing = TcpStream::connect(app.address).await.unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", BODY / 2, " ".repeat(BODY / 2));
    let request = head(&create_path(&app.api_key), "Transfer-Encoding: chunked\r\n") + &chunk;
    growing.write_all(request.as_bytes()).await.unwrap();
    until_in_flight(&app, BODY * 3 / 2).await;
    let _other = begin(&app, &other_key).await;
    until_in_flight(&app, BODY * 5 / 2).await;
    // The enterprise holds as much as is free now.
    growing.write_all(chunk.as_bytes()).await.unwrap();
    let got = raw::read_response(&mut growing).await;
    assert_eq!((got.status, got.header("connection")), (503, Some("close")));
    until_in_flight(&app, BODY * 2).await;
    assert_eq!(scrape(&app).await.has(REJECTED), 1.0);
}

/// Begins a token request of 4096 bytes from one of the loopback addresses, and sends a part of it.
async fn begin_token_request(app: &TestApp, last: usize, sent: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("127.0.1.{last}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(app.address).await.unwrap();
    let request = head("/cgi/gettoken", "Content-Length: 4096\r\n") + &" ".repeat(sent);
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn body_of_an_anonymous_caller_counts_as_far_as_it_has_arrived() {
    let app = spawn_with(with_small_budget).await;
    let mut anonymous = Vec::new();
    for last in 1..=50 {
        anonymous.push(begin_token_request(&app, last, 10).await);
    }
    until_in_flight(&app, 50 * 10).await;
    assert_eq!(scrape(&app).await.has(REJECTED), 0.0);
    drop(anonymous);
    until_in_flight(&app, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_many_anonymous_callers_leave_memory_to_enterprises() {
    const CALLERS: usize = 200;
    let app = spawn_with(with_small_budget).await;
    let mut anonymous = Vec::new();
    for last in 1..=CALLERS {
        anonymous.push(begin_token_request(&app, last, 4_000).await);
    }
    wait_until("the share of anonymous callers is in use", async || {
        let scrape = scrape(&app).await;
        let held = scrape.has(IN_FLIGHT) / 4_000.0;
        held + scrape.has(REJECTED) == CALLERS as f64
    })
    .await;
    let held = scrape(&app).await.has(IN_FLIGHT);
    assert!(held <= (BUDGET / 4) as f64, "{held}");
    let created = app.client.post(&create_path(&app.api_key), body(BODY)).await;
    assert_eq!(created.json::<Value>().await.unwrap()["errcode"], 0);
}

/// A way for a request with a body to end.
#[derive(Clone, Copy, Debug)]
enum End {
    Success,
    NotJson,
    Denied,
    TooLarge,
    Disconnect,
    Cancel,
    BrokenChunk,
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_of_a_body_is_released_however_its_request_ends() {
    let app = spawn_with(with_small_budget).await;
    let path = create_path(&app.api_key);
    let chunked = head(&path, "Transfer-Encoding: chunked\r\n");
    for end in [
        End::Success,
        End::NotJson,
        End::Denied,
        End::TooLarge,
        End::Disconnect,
        End::Cancel,
        End::BrokenChunk,
    ] {
        let content = match end {
            End::NotJson => "x".repeat(BODY),
            End::Denied => body(BODY).replace("[\"b\"", "[\"\""),
            _ => body(BODY),
        };
        let (first, second) = content.split_at(BODY / 2);
        if let End::Cancel = end {
            cancel(&app, &path, first).await;
            continue;
        }
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        stream.write_all((chunked.clone() + &chunk(first)).as_bytes()).await.unwrap();
        until_in_flight(&app, first.len()).await;
        let rest = match end {
            End::Disconnect => String::new(),
            End::BrokenChunk => "nonsense\r\n".to_owned(),
            End::TooLarge => chunk(second) + &chunk("  "),
            _ => chunk(second) + "0\r\n\r\n",
        };
        if let End::Disconnect = end {
            drop(stream);
        } else {
            stream.write_all(rest.as_bytes()).await.unwrap();
            let got = raw::read_response(&mut stream).await;
            let expected = matches!(end, End::Success).then_some(json!(0));
            assert_eq!(code(&got) == 0, expected.is_some(), "{end:?}: {got:?}");
        }
        until_in_flight(&app, 0).await;
    }
    assert_eq!(scrape(&app).await.has(REJECTED), 0.0);
}

/// Resets a stream of HTTP/2 in the middle of its body.
async fn cancel(app: &TestApp, path: &str, first: &str) {
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (mut send, connection) = client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://muster{path}")).body(()).unwrap();
    let (_answer, mut body) = send.send_request(request, false).unwrap();
    body.send_data(Bytes::copy_from_slice(first.as_bytes()), false).unwrap();
    until_in_flight(app, first.len()).await;
    body.send_reset(Reason::CANCEL);
    until_in_flight(app, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn body_counts_until_its_request_has_ended() {
    let app = spawn_with(with_small_budget).await;
    let locked = store::lock_sessions(&app).await;
    let path = create_path(&app.api_key);
    let creating = app.client.post(&path, body(BODY));
    let (created, ()) = tokio::join!(creating, async {
        store::wait_for_blocked_statement(&mut store::connect(&app).await).await;
        assert_eq!(scrape(&app).await.has(IN_FLIGHT), BODY as f64);
        drop(locked);
    });
    assert_eq!(created.json::<Value>().await.unwrap()["errcode"], 0);
    until_in_flight(&app, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_timeout_starts_at_the_end_of_the_body() {
    // The server has this time for the request also on a busy machine.
    const TIMEOUT: Duration = Duration::from_secs(4);
    let app = spawn_app_with(|settings| {
        settings.server.request_timeout = TIMEOUT;
        settings.server.body_timeout = 10 * WAIT_TIMEOUT;
    })
    .await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let content = body(200);
    let request = head(&create_path(&app.api_key), "Content-Length: 200\r\n");
    stream.write_all((request + &content[..100]).as_bytes()).await.unwrap();
    // The fault: the client is slow.
    tokio::time::sleep(TIMEOUT * 3 / 2).await;
    stream.write_all(&content.as_bytes()[100..]).await.unwrap();
    let got = raw::read_response(&mut stream).await;
    assert_eq!((got.status, got.json()["errcode"].clone()), (200, json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_count_like_bodies_of_their_memory() {
    let app = spawn_with(with_small_budget).await;
    let create = async |attributes: Value| {
        let builder = app.client.request(Method::POST, "/v1/sessions").bearer_auth(&app.api_key);
        let body = json!({
            "operator": "a", "title": "t", "member": ["b", "c"], "attributes": attributes
        });
        builder.json(&body).send().await.unwrap().status()
    };
    // About 640 bytes of memory for each of these objects, which have 7 bytes of text.
    let objects = vec![json!({ "": 0 }); 1_000];
    assert_eq!(create(json!({ "a": objects })).await, 503);
    assert_eq!(create(json!({ "a": objects[..100] })).await, 201);
    assert_eq!(create(json!({ "a": "x".repeat(15_000) })).await, 201);
    until_in_flight(&app, 0).await;
}
