//! HTTP/2: many requests on a connection, and limits for its clients.

use std::future::poll_fn;

use actix_web::web::Bytes;
use h2::Reason;
use h2::client::{self, SendRequest};
use reqwest::Version;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{
    CertificateFiles, SHORT_TIMEOUT, WAIT_TIMEOUT, read_until_closed, read_until_closed_while,
    send_slowly, spawn_tls_app, spawn_with_short_timeouts,
};
use crate::harness::{TestApp, refusal, spawn_app, spawn_app_with, store};

/// A plaintext connection, and a task that returns how it ended.
async fn connect(
    app: &TestApp,
    builder: &client::Builder,
) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (send, connection) = builder.handshake(stream).await.unwrap();
    (send, tokio::spawn(connection))
}

fn get(path: &str) -> http::Request<()> {
    http::Request::get(format!("http://muster{path}")).body(()).unwrap()
}

async fn assert_serves(app: &TestApp) {
    let (mut send, _) = connect(app, &client::Builder::new()).await;
    let (answer, _) = send.send_request(get("/healthz"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_requests_share_a_connection() {
    let certificate = CertificateFiles::new();
    let app = spawn_tls_app(&certificate, |settings| settings.server.workers = 1).await;
    let client = certificate.client().build().unwrap();
    let create = format!("https://{}/v1/sessions", app.address);
    let mut calls = JoinSet::new();
    for n in 0..300 {
        let body = json!({ "operator": "a", "title": format!("t{n}"), "member": ["b", "c"] });
        calls.spawn(client.post(&create).bearer_auth(&app.api_key).json(&body).send());
    }
    for answer in calls.join_all().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (201, Version::HTTP_2));
        let headers = answer.headers();
        assert!(headers.contains_key("date") && headers.contains_key("x-request-id"));
        assert!(!headers.contains_key("connection"));
        let length = headers["content-length"].to_str().unwrap().to_owned();
        assert_eq!(answer.bytes().await.unwrap().len().to_string(), length);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_works_with_prior_knowledge() {
    let app = spawn_app().await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let body = json!({ "title": "会", "creator": "a", "member": ["b", "c"] }).to_string();
    let url = format!("http://{}/cgi/session/create?accessToken={}", app.address, app.api_key);
    let answer = client.post(url).body(body).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let session: Value = answer.json().await.unwrap();
    assert_eq!((&session["errcode"], &session["title"]), (&json!(0), &json!("会")));
    let head = client.head(format!("http://{}/healthz", app.address)).send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert!(head.bytes().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_body_is_refused_and_the_connection_stays() {
    let app = spawn_app_with(|settings| settings.server.body_timeout = SHORT_TIMEOUT).await;
    let (mut send, _) = connect(&app, &client::Builder::new()).await;
    let request = http::Request::post("http://muster/cgi/gettoken").body(()).unwrap();
    let (answer, mut body) = send.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"{"), false).unwrap();
    let answer = timeout(WAIT_TIMEOUT, answer).await.expect("no response").unwrap();
    assert_eq!(answer.status(), 408);
    assert!(!answer.headers().contains_key("connection"));
    let content = answer.into_body().data().await.unwrap().unwrap();
    let content: Value = serde_json::from_slice(&content).unwrap();
    assert_eq!(content, refusal(100_003, "body: must arrive within 500ms"));
    let (answer, _) = send.send_request(get("/healthz"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
}

/// A frame of stream 1.
fn frame(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[..], &[kind, flags, 0, 0, 0, 1], content].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_frames_and_header_blocks_time_out() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    // `:method: GET` from the static table.
    const GET: &[u8] = &[0x82];
    let long = GET.repeat(1_000);
    let app = spawn_with_short_timeouts().await;
    let mut calls = JoinSet::new();
    for (case, first_part, slow) in [
        ("the head of a frame", Vec::new(), frame(1, 4, &long)),
        ("a list of headers", frame(1, 4, &long)[..9].to_vec(), long.clone()),
        ("a continued list of headers", frame(1, 0, GET), frame(9, 0, GET).repeat(100)),
        ("a frame of an unknown kind", frame(200, 0, &long)[..9].to_vec(), long.clone()),
    ] {
        for sends_slowly in [false, true] {
            let (first_part, slow) = ([PREFACE, &first_part].concat(), slow.clone());
            let address = app.address;
            calls.spawn(async move {
                let started_at = Instant::now();
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(&first_part).await.unwrap();
                let (mut reader, mut writer) = stream.split();
                let sending = async {
                    match sends_slowly {
                        true => send_slowly(&mut writer, &slow).await,
                        false => writer.write_all(&slow[..1]).await.unwrap(),
                    }
                };
                read_until_closed_while(&mut reader, sending).await;
                let elapsed = started_at.elapsed();
                assert!(elapsed >= SHORT_TIMEOUT, "{case} {sends_slowly}: {elapsed:?}");
            });
        }
    }
    calls.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_server_sends_goaway_and_finishes_requests() {
    let app = spawn_app_with(|settings| settings.server.body_timeout = 20 * WAIT_TIMEOUT).await;
    let (mut idle, idle_ended) = connect(&app, &client::Builder::new()).await;
    let (answer, _) = idle.send_request(get("/healthz"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    let (mut busy, busy_ended) = connect(&app, &client::Builder::new()).await;
    let create = format!("/cgi/session/create?accessToken={}", app.api_key);
    let request = http::Request::post(format!("http://muster{create}")).body(()).unwrap();
    let (running, mut body) = busy.send_request(request, false).unwrap();
    let (answer, _) = busy.send_request(get("/healthz"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200, "the earlier request runs");

    app.shutdown_signal.stop();
    let closing = async {
        loop {
            match poll_fn(|cx| busy.poll_ready(cx)).await {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    };
    let error = timeout(WAIT_TIMEOUT, closing).await.expect("no GOAWAY");
    assert!(error.is_go_away() && error.is_remote(), "{error}");
    assert_eq!(error.reason(), Some(Reason::NO_ERROR));
    let ended = timeout(WAIT_TIMEOUT, idle_ended).await.expect("the idle connection stays open");
    ended.unwrap().expect("the idle connection ended with an error");

    let session = json!({ "title": "t", "creator": "a", "member": ["b", "c"] }).to_string();
    body.send_data(session.into(), true).unwrap();
    let mut answer = timeout(WAIT_TIMEOUT, running).await.expect("no response").unwrap();
    assert_eq!(answer.status(), 200);
    let session = answer.body_mut().data().await.unwrap().unwrap();
    let session: Value = serde_json::from_slice(&session).unwrap();
    assert_eq!(session["errcode"], 0, "{session}");
    let _ = timeout(WAIT_TIMEOUT, busy_ended).await.expect("the busy connection stays open");
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_response_times_out() {
    let app = spawn_app_with(|settings| settings.server.write_timeout = SHORT_TIMEOUT).await;
    let (mut send, _) = connect(&app, client::Builder::new().initial_window_size(10)).await;
    let (answer, _) = send.send_request(get("/healthz"), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap().len(), 10);
    // The client never enlarges the window.
    let end = timeout(WAIT_TIMEOUT, body.data()).await.expect("the stream is never reset").unwrap();
    assert_eq!(end.unwrap_err().reason(), Some(Reason::CANCEL));
    assert_serves(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_headers_are_bounded() {
    let app = spawn_app_with(|settings| {
        settings.limits.max_uri_bytes = 1_024;
        settings.limits.max_header_bytes = 4_096;
        settings.limits.max_headers = 20;
    })
    .await;
    let (mut send, _) = connect(&app, &client::Builder::new()).await;
    let (answer, _) = send.send_request(get("/healthz"), true).unwrap();
    answer.await.unwrap();
    assert_eq!(send.current_max_send_streams(), 128);

    // Each header counts as its name, its value and 32 bytes. The host is one more header.
    for (headers, length, status) in [(3, 1_200, 200), (3, 1_400, 431), (19, 1, 200), (20, 1, 431)]
    {
        let mut request = get("/healthz");
        let value = http::HeaderValue::try_from("y".repeat(length)).unwrap();
        for n in 0..headers {
            let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
            request.headers_mut().insert(name, value.clone());
        }
        let (answer, _) = send.send_request(request, true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), status, "{headers} headers of {length} bytes");
    }
    assert_serves(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_bodies_that_are_not_read_yet_are_bounded() {
    const WINDOW: usize = 256 * 1024;
    let app = spawn_app_with(|settings| {
        settings.server.request_timeout = 10 * WAIT_TIMEOUT;
        settings.database.acquire_timeout = WAIT_TIMEOUT;
        settings.database.statement_timeout = WAIT_TIMEOUT;
    })
    .await;
    let mut builder = client::Builder::new();
    let (mut send, _) = connect(&app, builder.max_send_buffer_size(8 * WINDOW)).await;
    let (answer, _) = send.send_request(get("/healthz"), true).unwrap();
    answer.await.unwrap();
    // The server reads no body before it knows the caller.
    let locked = store::lock_credentials(&app).await;
    let mut bodies = Vec::new();
    for number in 0..5 {
        let path = format!("http://muster/cgi/session/create?accessToken=msk_{}", "0".repeat(43));
        let request = http::Request::post(path).body(()).unwrap();
        let (answer, mut body) = send.send_request(request, false).unwrap();
        body.reserve_capacity(4 * WINDOW);
        if number < 4 {
            let capacity = poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
            assert_eq!(capacity, WINDOW, "of one body");
            body.send_data(vec![b' '; WINDOW].into(), false).unwrap();
        } else {
            assert_eq!(body.capacity(), 0, "the whole connection");
        }
        bodies.push((answer, body));
    }
    drop(locked);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_response_is_sent_in_small_parts() {
    const MAX_PART: usize = 16 * 1024;
    let app = spawn_app().await;
    let mut builder = client::Builder::new();
    builder.max_frame_size(1 << 20).initial_window_size(1 << 24);
    let (mut send, _) = connect(&app, builder.initial_connection_window_size(1 << 24)).await;
    let (answer, _) = send.send_request(get("/v1/openapi.json"), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let mut parts = Vec::new();
    while let Some(part) = body.data().await {
        parts.push(part.unwrap().len());
    }
    assert!(parts.iter().sum::<usize>() > 4 * MAX_PART, "{parts:?}");
    assert!(parts.iter().all(|part| *part <= MAX_PART), "{parts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_flood_closes_the_connection() {
    let app = spawn_app().await;
    let (mut send, ended) = connect(&app, &client::Builder::new()).await;
    let resetting = async {
        loop {
            for _ in 0..100 {
                let Ok((_, mut stream)) = send.send_request(get("/healthz"), true) else { return };
                stream.send_reset(Reason::CANCEL);
            }
            tokio::task::yield_now().await;
        }
    };
    // Only resets that overtake their requests count, and not all do on a busy machine.
    timeout(WAIT_TIMEOUT, resetting).await.expect("the server never closes the connection");
    // The reason is lost if the connection breaks before it is read.
    let error = ended.await.unwrap().unwrap_err();
    let is_calm = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
    assert!(is_calm || error.is_io(), "{error}");
    assert_serves(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connection_is_closed() {
    let app = spawn_app_with(|settings| {
        settings.server.header_timeout = SHORT_TIMEOUT;
        settings.server.keep_alive_timeout = SHORT_TIMEOUT;
    })
    .await;
    // One client stops within the preface, one stops after it, and one only sends pings.
    for start in [&b"PR"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(start).await.unwrap();
        read_until_closed(&mut stream).await;
    }
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (mut send, mut connection) = client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let ended = tokio::spawn(connection);
    let (answer, _) = send.send_request(get("/healthz"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    let pinging = async { while pings.ping(h2::Ping::opaque()).await.is_ok() {} };
    timeout(WAIT_TIMEOUT, pinging).await.expect("still open");
    let _ = timeout(WAIT_TIMEOUT, ended).await.expect("still open");
}
