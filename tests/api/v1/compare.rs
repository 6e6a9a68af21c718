//! The comparison of a copy with the sessions: the differences, and the bounds of a request of any length.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster::domain::Permission;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{checked, create_session, get, problem, refused, request, result, send};
use crate::harness::process::{WAIT_TIMEOUT, plain_http};
use crate::harness::{
    BUIN, TestApp, spawn_app, spawn_app_with, store, test_start_time, wait_until,
};
use crate::transport::slow_readers::connect_with_small_buffer;

const COMPARE: &str = "/v1/sessions/compare";
const MISSING: &str = "/v1/sessions/compare?missing=true";
const MEDIA_TYPE: &str = "application/x-ndjson";
/// The timeouts of the servers in these tests.
const SHORT_TIMEOUT: Duration = Duration::from_millis(500);
/// The number of lines that the server reads before it compares them.
const PART: usize = 2_000;

/// A line of a request.
fn line(id: &str, version: i64) -> String {
    format!("{}\n", json!({ "sessionId": id, "version": version }))
}

/// Lines with ids that no session has, in ascending order.
fn unknown_lines(count: usize) -> String {
    (0..count).map(|n| line(&format!("ffffffff-0000-7000-8000-{n:012x}"), 1)).collect()
}

/// The objects of a response.
fn parsed(text: &str) -> Vec<Value> {
    assert!(text.ends_with('\n'), "the last line has no end: {text:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn post(app: &TestApp, path: &str, body: String) -> Response {
    let builder = request(app, Method::POST, path).header("content-type", MEDIA_TYPE);
    builder.body(body).send().await.unwrap()
}

/// The lines of a response with status 200, and its summary.
async fn compare(app: &TestApp, path: &str, body: String) -> (Vec<Value>, Value) {
    let response = post(app, path, body).await;
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    assert_eq!(status, 200, "{text}");
    assert_eq!(headers["content-type"], MEDIA_TYPE);
    let mut lines = parsed(&text);
    let summary = lines.pop().unwrap();
    (lines, summary)
}

fn id(session: &Value) -> &str {
    session["sessionId"].as_str().unwrap()
}

fn difference(id: &str, state: &str, version: i64) -> Value {
    json!({ "sessionId": id, "state": state, "version": version })
}

fn unknown(id: &str) -> Value {
    json!({ "sessionId": id, "state": "unknown" })
}

fn summary(compared: usize, differing: usize) -> Value {
    json!({ "compared": compared, "differing": differing })
}

/// Three sessions with the versions 1, 2 and 3, in ascending order of their ids. The last one is
/// dissolved.
async fn three_sessions(app: &TestApp) -> [Value; 3] {
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(create_session(app, &["a", "b", "c"]).await);
    }
    sessions.sort_by(|(_, one), (_, two)| id(one).cmp(id(two)));
    for (path, changes) in [(&sessions[1].0, 1), (&sessions[2].0, 1)] {
        for change in 0..changes {
            let body = json!({ "operator": "a", "title": change.to_string() });
            result(send(app, Method::PATCH, path, &body).await).await;
        }
    }
    let dissolve = format!("{}?operator=a", sessions[2].0);
    let dissolved = request(app, Method::DELETE, &dissolve).send().await.unwrap();
    assert!(dissolved.status().is_success());
    let mut current = Vec::new();
    for (path, _) in &sessions {
        current.push(get(app, path).await);
    }
    let versions: Vec<_> = current.iter().map(|session| session["version"].clone()).collect();
    assert_eq!(json!(versions), json!([1, 2, 3]));
    current.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_sessions_that_differ_are_reported() {
    let app = spawn_app().await;
    let [one, two, three] = three_sessions(&app).await;
    let (_, foreign_key) =
        app.another_app(BUIN + 1, &[Permission::SessionsRead, Permission::SessionsWrite]).await;
    let body = json!({ "operator": "a", "title": "t", "member": ["b", "c"] });
    let foreign = app.client.request(Method::POST, "/v1/sessions").bearer_auth(foreign_key);
    let foreign = result(foreign.json(&body).send().await.unwrap()).await;
    let nobody = "{00000000-0000-7000-8000-000000000001}";

    let same = [line(id(&one), 1), line(id(&two), 2), line(id(&three), 3)].concat();
    assert_eq!(compare(&app, COMPARE, same).await, (vec![], summary(3, 0)));

    // In the order of the request, in any form of the id, and each line by itself.
    let plain = id(&three).trim_matches(['{', '}']).to_ascii_lowercase();
    let lines = [
        line(&plain, 2),
        line(id(&one), 1),
        line(id(&two), i64::MAX),
        line(id(&foreign), 1),
        line(nobody, 7),
        line(&plain, 3),
        line(&plain, 2),
    ];
    let differing = vec![
        difference(id(&three), "changed", 3),
        difference(id(&two), "behind", 2),
        unknown(id(&foreign)),
        unknown(nobody),
        difference(id(&three), "changed", 3),
    ];
    assert_eq!(compare(&app, COMPARE, lines.concat()).await, (differing, summary(7, 5)));
    assert_eq!(compare(&app, COMPARE, String::new()).await, (vec![], summary(0, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_the_copy_does_not_have_are_reported_on_request() {
    let app = spawn_app().await;
    let [one, two, three] = three_sessions(&app).await;
    let (before, after) =
        ("{00000000-0000-7000-8000-000000000001}", "{FFFFFFFF-0000-7000-8000-000000000001}");
    let all: Vec<_> = [(&one, 1), (&two, 2), (&three, 3)]
        .map(|(session, version)| difference(id(session), "missing", version))
        .into();
    let answer = compare(&app, MISSING, String::new()).await;
    assert_eq!(answer, (all.clone(), summary(0, 3)));

    let lines = [line(before, 1), line(id(&two), 1), line(after, 1)].concat();
    let differing = vec![
        unknown(before),
        all[0].clone(),
        difference(id(&two), "changed", 2),
        all[2].clone(),
        unknown(after),
    ];
    assert_eq!(compare(&app, MISSING, lines.clone()).await, (differing, summary(3, 5)));
    let explicit = format!("{COMPARE}?missing=false");
    assert_eq!(compare(&app, &explicit, lines).await.1, summary(3, 3));
}

/// The sessions of [`store::insert_many_sessions`] with their versions.
fn many_sessions(count: usize) -> BTreeMap<String, i64> {
    (1..=count)
        .map(|n| (format!("{{00000000-0000-7000-8000-{n:012X}}}"), 1 + i64::from(n % 4000 == 0)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_of_any_length_is_compared() {
    // The body is longer than other bodies may be.
    let app = spawn_app_with(|settings| settings.limits.max_body_bytes = 4_096).await;
    const COUNT: usize = 3 * PART + 500;
    store::insert_many_sessions(&app, test_start_time(), i32::try_from(COUNT).unwrap()).await;
    let current = many_sessions(COUNT);
    let text = |copy: &BTreeMap<String, i64>| -> String {
        copy.iter().map(|(id, version)| line(id, *version)).collect()
    };
    let equal = (vec![], summary(COUNT, 0));
    assert_eq!(compare(&app, COMPARE, text(&current)).await, equal);
    assert_eq!(compare(&app, MISSING, text(&current)).await, equal);

    // A copy with faults in all parts.
    let mut copy = current.clone();
    let mut expected = BTreeMap::new();
    for (n, (id, version)) in current.iter().enumerate() {
        match n % 700 {
            0 => {
                copy.remove(id);
                expected.insert(id.clone(), difference(id, "missing", *version));
            }
            1 => {
                copy.insert(id.clone(), version + 1);
                expected.insert(id.clone(), difference(id, "behind", *version));
            }
            2 => {
                let id = id.replace("-8000-", "-9000-");
                expected.insert(id.clone(), unknown(&id));
                copy.insert(id, 1);
            }
            _ => {}
        }
    }
    let (found, found_summary) = compare(&app, MISSING, text(&copy)).await;
    assert_eq!(found_summary, summary(copy.len(), expected.len()));
    assert_eq!(found, expected.values().cloned().collect::<Vec<_>>());
    let (found, _) = compare(&app, COMPARE, text(&copy)).await;
    let named: Vec<_> =
        expected.into_values().filter(|session| session["state"] != "missing").collect();
    assert_eq!(found, named);

    // No copy at all: a page of the sessions after the other.
    let (found, found_summary) = compare(&app, MISSING, String::new()).await;
    assert_eq!(found_summary, summary(0, COUNT));
    let all: Vec<_> =
        current.iter().map(|(id, version)| difference(id, "missing", *version)).collect();
    assert_eq!(found, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_request_is_refused_before_a_response_begins() {
    let app = spawn_app().await;
    let (one, two) =
        ("{00000000-0000-7000-8000-000000000001}", "{00000000-0000-7000-8000-000000000002}");
    let good = line(one, 1);
    let not_ascending = |last| {
        format!(
            "sessionId: must be greater than {last} of the line before, because missing is true"
        )
    };
    for (path, body, code, at, field, detail) in [
        (
            COMPARE,
            "[]".to_owned(),
            "malformed_body",
            1,
            "body",
            "body: must be a JSON object, got a list",
        ),
        (
            COMPARE,
            format!("{good}\n{{}}"),
            "missing_field",
            3,
            "sessionId",
            "sessionId: is missing",
        ),
        (
            COMPARE,
            format!("{good}{}", line("x", 1)),
            "invalid_field",
            2,
            "sessionId",
            "sessionId: must be a UUID, got \"x\"",
        ),
        (COMPARE, line(one, 0), "invalid_field", 1, "version", "version: at least 1, got 0"),
        (
            COMPARE,
            format!("{{\"sessionId\":\"{one}\",\"version\":1,\"title\":\"t\"}}\n"),
            "unknown_field",
            1,
            "title",
            "title: is unknown, expected `sessionId` or `version`",
        ),
        (
            COMPARE,
            format!("{good}{}\n", " ".repeat(2_000)),
            "body_too_large",
            2,
            "body",
            "body: at most 1024 bytes in a line, got more",
        ),
        (
            MISSING,
            [line(two, 1), good.clone()].concat(),
            "invalid_field",
            2,
            "sessionId",
            &not_ascending(two),
        ),
        (
            MISSING,
            [good.clone(), good.clone()].concat(),
            "invalid_field",
            2,
            "sessionId",
            &not_ascending(one),
        ),
    ] {
        let (status, found, rest) = problem(post(&app, path, body.clone()).await).await;
        let expected = if code == "body_too_large" { 413 } else { 400 };
        assert_eq!((status, found.as_str()), (expected, code), "{body}");
        assert_eq!((&rest["line"], &rest["field"]), (&json!(at), &json!(field)), "{body}");
        assert_eq!(rest["detail"], format!("line {at}: {detail}"), "{body}");
    }
    for (path, code, field) in [
        (format!("{COMPARE}?missing=maybe"), "invalid_parameter", "missing"),
        (format!("{COMPARE}?missed=true"), "unknown_parameter", "missed"),
    ] {
        let (status, found, rest) = problem(post(&app, &path, good.clone()).await).await;
        assert_eq!((status, found.as_str(), &rest["field"]), (400, code, &json!(field)), "{path}");
    }
    let as_json = refused(&app, Method::POST, COMPARE, &json!({})).await;
    assert_eq!(as_json, (415, "unsupported_media_type".to_owned(), json!("Content-Type")));
    let builder = request(&app, Method::POST, COMPARE).header("if-match", "\"1\"");
    let (status, code, rest) = problem(builder.body(good.clone()).send().await.unwrap()).await;
    assert_eq!(
        (status, code.as_str(), &rest["field"]),
        (400, "invalid_header", &json!("If-Match"))
    );
    // Without a media type, the body is what the endpoint expects.
    let builder = request(&app, Method::POST, COMPARE).body(good);
    assert_eq!(builder.send().await.unwrap().status(), 200);
}

/// A request whose body the test sends piece by piece.
struct Upload(TcpStream);

impl Upload {
    async fn start(app: &TestApp, path: &str) -> Self {
        let stream = TcpStream::connect(app.address).await.unwrap();
        Self::start_on(stream, &app.api_key, path).await
    }

    async fn start_on(mut stream: TcpStream, api_key: &str, path: &str) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: muster\r\nAuthorization: Bearer {api_key}\r\n\
             Content-Type: {MEDIA_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Self(stream)
    }

    async fn send(&mut self, text: &str) -> std::io::Result<()> {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.0.write_all(chunk.as_bytes()).await
    }

    async fn end(&mut self) {
        self.0.write_all(b"0\r\n\r\n").await.unwrap();
    }

    /// The status of the response, and its text if it is complete.
    async fn response(&mut self) -> (u16, Option<String>) {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 65_536];
        loop {
            let reading = timeout(WAIT_TIMEOUT, self.0.read(&mut chunk)).await;
            match reading.expect("the server is silent").unwrap_or_default() {
                0 => break,
                length => bytes.extend(&chunk[..length]),
            }
            if bytes.ends_with(b"\r\n0\r\n\r\n") || has_whole_body(&bytes) {
                break;
            }
        }
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            true => (status, unchunked(body)),
            false => (status, Some(body.to_owned())),
        }
    }

    /// The rest of a response whose status was read: its text, if it is complete.
    async fn rest(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n0\r\n\r\n") {
            let mut chunk = vec![0; 65_536];
            let reading = timeout(WAIT_TIMEOUT, self.0.read(&mut chunk)).await;
            match reading.expect("the server is silent").unwrap_or_default() {
                0 => return None,
                length => bytes.extend(&chunk[..length]),
            }
        }
        let text = String::from_utf8(bytes).unwrap();
        unchunked(text.split_once("\r\n\r\n").unwrap().1)
    }

    /// The status line of the response, when it has arrived.
    async fn status(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(timeout(WAIT_TIMEOUT, self.0.read_u8()).await.unwrap().unwrap());
        }
        String::from_utf8(line).unwrap()
    }
}

/// Whether a response with a known length has arrived.
fn has_whole_body(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| body.len() >= length.parse::<usize>().unwrap())
}

/// The content of a chunked body; `None` if its end is missing.
fn unchunked(mut body: &str) -> Option<String> {
    let mut text = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return Some(text);
        }
        text.push_str(rest.get(..size)?);
        body = rest.get(size + 2..)?;
    }
}

/// Checks that the last line of a response is a problem with this status, code and line.
fn assert_ends_with_problem(text: &str, status: u16, code: &str, at: Option<usize>) -> usize {
    let mut lines = parsed(text);
    let last = lines.pop().unwrap();
    assert!(lines.iter().all(|line| line["state"] == "unknown"), "{last}");
    let request_id = last["requestId"].as_str().unwrap().to_owned();
    let (_, found, rest) = checked(status, &request_id, last);
    assert_eq!((found.as_str(), rest.get("line")), (code, at.map(|at| json!(at)).as_ref()));
    lines.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn later_error_is_the_last_line_of_the_response() {
    let app = spawn_app().await;
    // The differences of the first part begin the response.
    let body = format!("{}{{}}\n", unknown_lines(2 * PART));
    let response = post(&app, COMPARE, body).await;
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    let at = 2 * PART + 1;
    assert_eq!(assert_ends_with_problem(&text, 400, "missing_field", Some(at)), 2 * PART);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_may_last_longer_than_the_request_timeout() {
    let timeout = 4 * SHORT_TIMEOUT;
    let app = spawn_app_with(|settings| settings.server.request_timeout = timeout).await;
    let mut upload = Upload::start(&app, COMPARE).await;
    for part in unknown_lines(4).split_inclusive('\n') {
        upload.send(part).await.unwrap();
        tokio::time::sleep(timeout / 3).await;
    }
    upload.end().await;
    let (status, text) = upload.response().await;
    let lines = parsed(&text.unwrap());
    assert_eq!((status, &lines[4]), (200, &summary(4, 4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_of_a_copy_must_arrive_in_time() {
    let app = spawn_app_with(|settings| settings.server.body_timeout = SHORT_TIMEOUT).await;
    let mut upload = Upload::start(&app, COMPARE).await;
    upload.send(&unknown_lines(1)).await.unwrap();
    let (status, text) = upload.response().await;
    let found: Value = serde_json::from_str(&text.unwrap()).unwrap();
    assert_eq!((status, &found["code"]), (408, &json!("body_timeout")));

    let mut upload = Upload::start(&app, COMPARE).await;
    upload.send(&unknown_lines(PART + 1)).await.unwrap();
    let (status, text) = upload.response().await;
    assert_eq!(status, 200);
    assert_eq!(assert_ends_with_problem(&text.unwrap(), 408, "body_timeout", None), PART);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_may_read_after_it_has_sent_everything() {
    let app = spawn_app().await;
    // The differences exceed the buffers of the connection, but not those of the response.
    const COUNT: usize = 10_000;
    let stream = connect_with_small_buffer(&app).await;
    let mut upload = Upload::start_on(stream, &app.api_key, COMPARE).await;
    let lines = unknown_lines(COUNT);
    let sending = upload.send(&lines);
    timeout(WAIT_TIMEOUT, sending).await.expect("the server stops reading").unwrap();
    upload.end().await;
    let (status, text) = upload.response().await;
    let lines = parsed(&text.unwrap());
    assert_eq!((status, lines.last()), (200, Some(&summary(COUNT, COUNT))));
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_does_not_read_cannot_send_for_ever() {
    let app = spawn_app_with(|settings| settings.server.write_timeout = SHORT_TIMEOUT).await;
    let stream = connect_with_small_buffer(&app).await;
    let mut upload = Upload::start_on(stream, &app.api_key, COMPARE).await;
    let part = unknown_lines(PART);
    let sending = async { while upload.send(&part).await.is_ok() {} };
    timeout(WAIT_TIMEOUT, sending).await.expect("the server never stops reading");
}

#[tokio::test(flavor = "multi_thread")]
async fn comparisons_of_an_enterprise_are_bounded() {
    let app = spawn_app().await;
    let part = unknown_lines(PART);
    let mut running = Vec::new();
    for _ in 0..2 {
        let mut upload = Upload::start(&app, COMPARE).await;
        upload.send(&part).await.unwrap();
        // The response has begun, so the comparison runs.
        assert_eq!(upload.status().await, "HTTP/1.1 200 OK\r\n");
        running.push(upload);
    }
    let response = post(&app, COMPARE, String::new()).await;
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, code, rest) = problem(response).await;
    assert_eq!((status, code.as_str(), &rest["limit"]), (429, "too_many_requests", &json!(2)));
    let (_, other) = app.another_app(BUIN + 1, &[Permission::SessionsRead]).await;
    let other = app.client.request(Method::POST, COMPARE).bearer_auth(other);
    assert_eq!(other.body("").send().await.unwrap().status(), 200, "another enterprise");

    // A comparison ends with its request, or when its client is gone.
    running[0].end().await;
    drop(running.pop());
    for _ in 0..2 {
        wait_until("a comparison has ended", async || {
            post(&app, COMPARE, String::new()).await.status() == 200
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_of_the_server_ends_a_comparison_without_a_summary() {
    let app = spawn_app().await;
    let mut upload = Upload::start(&app, COMPARE).await;
    upload.send(&unknown_lines(PART)).await.unwrap();
    assert_eq!(upload.status().await, "HTTP/1.1 200 OK\r\n");
    app.shutdown_signal.stop();
    let mut rest = Vec::new();
    timeout(WAIT_TIMEOUT, upload.0.read_to_end(&mut rest)).await.unwrap().unwrap_or_default();
    assert!(!String::from_utf8_lossy(&rest).contains("\"compared\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_of_the_server_refuses_a_comparison_whose_response_has_not_started() {
    let app = spawn_app().await;
    let mut running = Vec::new();
    for _ in 0..2 {
        let mut upload = Upload::start(&app, COMPARE).await;
        upload.send(&unknown_lines(1)).await.unwrap();
        running.push(upload);
    }
    wait_until("both comparisons run", async || {
        post(&app, COMPARE, String::new()).await.status() == 429
    })
    .await;
    app.shutdown_signal.stop();
    for mut upload in running {
        let (status, text) = upload.response().await;
        let found: Value = serde_json::from_str(&text.unwrap()).unwrap();
        assert_eq!((status, &found["code"]), (503, &json!("unavailable")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_copy_count_as_requests_of_the_app() {
    let app = spawn_app_with(|settings| {
        settings.limits.requests_per_second = 1;
        settings.limits.max_burst = 1;
    })
    .await;
    let started_at = Instant::now();
    let (_, found) = compare(&app, COMPARE, unknown_lines(2 * PART + 1)).await;
    assert_eq!(found, summary(2 * PART + 1, 2 * PART + 1));
    assert!(started_at.elapsed() >= Duration::from_secs(2), "three parts at one in a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_ends_its_comparison() {
    let app = spawn_app().await;
    let (_, key) = app.another_app(BUIN, &[Permission::SessionsRead]).await;
    let stream = TcpStream::connect(app.address).await.unwrap();
    let mut upload = Upload::start_on(stream, &key, COMPARE).await;
    upload.send(&unknown_lines(PART)).await.unwrap();
    assert_eq!(upload.status().await, "HTTP/1.1 200 OK\r\n");
    store::revoke_key(&app.pool, &key).await;
    wait_until("the server knows that the key is revoked", async || {
        let read = app.client.request(Method::GET, "/v1/limits").bearer_auth(&key);
        read.send().await.unwrap().status() == 401
    })
    .await;
    upload.send(&unknown_lines(1)).await.unwrap();
    upload.end().await;
    let rest = upload.rest().await.unwrap();
    assert_eq!(assert_ends_with_problem(&rest, 401, "invalid_api_key", None), PART);
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_is_compared_over_http2() {
    let app = spawn_app().await;
    let client = plain_http().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}{COMPARE}", app.address);
    const COUNT: usize = 5 * PART;
    let request = client.post(url).bearer_auth(&app.api_key).body(unknown_lines(COUNT));
    let response = request.send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    let lines = parsed(&response.text().await.unwrap());
    assert_eq!(lines.last(), Some(&summary(COUNT, COUNT)));
}
