//! HTTP/2: many requests on a connection, and limits for its clients.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::web::Bytes;
use h2::client::{self, SendRequest};
use h2::{Reason, SendStream};
use muster::domain::Permission;
use reqwest::Version;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{
    CertificateFiles, SHORT_TIMEOUT, WAIT_TIMEOUT, read_until_closed, read_until_closed_while,
    send_slowly, spawn_tls_app, spawn_with_short_timeouts,
};
use crate::harness::process::plain_http;
use crate::harness::{BUIN, TestApp, refusal, spawn_app, spawn_app_with, store, wait_until};
use crate::metrics;
use crate::metrics::scrape;

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
    let client = plain_http().http2_prior_knowledge().build().unwrap();
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
    stream_frame(1, kind, flags, content)
}

fn stream_frame(stream: u32, kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), content].concat()
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
async fn response_that_is_read_byte_by_byte_times_out() {
    let app = spawn_app_with(|settings| settings.server.write_timeout = SHORT_TIMEOUT).await;
    let (mut send, _) = connect(&app, client::Builder::new().initial_window_size(1)).await;
    let (answer, _) = send.send_request(get("/healthz"), true).unwrap();
    let answer = answer.await.unwrap();
    let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let mut body = answer.into_body();
    let mut interval = tokio::time::interval(SHORT_TIMEOUT / 5);
    let mut read = 0;
    let end = loop {
        match timeout(WAIT_TIMEOUT, body.data()).await.expect("no byte and no end") {
            Some(Ok(bytes)) => read += bytes.len(),
            Some(Err(error)) => break error,
            None => panic!("the whole response, byte by byte"),
        }
        interval.tick().await;
        body.flow_control().release_capacity(1).unwrap();
    };
    assert_eq!(end.reason(), Some(Reason::CANCEL));
    assert!(read < length / 2, "{read} of {length} bytes");
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

/// The memory of open requests without a credential, of one address: half of the whole.
const ADDRESS_SHARE: usize = 32 * 1024 * 1024;
/// The requests that a test opens on a connection.
const REQUESTS: usize = 120;
/// The memory that a request takes at least.
const STREAM: usize = 16 * 1024;

/// A connection from one of the loopback addresses, whose client reads no bodies.
async fn connect_silent(app: &TestApp, source: &str) -> SendRequest<Bytes> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    let stream = socket.connect(app.address).await.unwrap();
    let mut builder = client::Builder::new();
    let (send, connection) = builder.initial_window_size(0).handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

/// The headers of a large request, and the bytes of each value. A larger value would not fit into three
/// quarters of the table of a client, which would then send each request in full.
const LARGE_HEADERS: usize = 10;
const LARGE_VALUE: usize = 3_000;

/// A request whose headers have 30 KB, and take a few bytes on the network but the first time.
fn with_large_headers(mut request: http::Request<()>) -> http::Request<()> {
    for _ in 0..LARGE_HEADERS {
        let value = http::HeaderValue::try_from("a".repeat(LARGE_VALUE)).unwrap();
        request.headers_mut().append("x-a", value);
    }
    request
}

/// Sends large requests without their bodies, more than the share of an address has room for. Each runs or
/// has been refused afterwards. Returns the bodies, the answers that are awaited, and the number of refusals.
async fn open_large_requests(app: &TestApp) -> (Vec<SendStream<Bytes>>, JoinSet<()>, usize) {
    let refused = Arc::new(AtomicUsize::new(0));
    let (mut open, mut answers) = (Vec::new(), JoinSet::new());
    for _ in 0..7 {
        let mut send = connect_silent(app, "127.0.0.1").await;
        for _ in 0..REQUESTS {
            let request = http::Request::post("http://muster/cgi/gettoken").body(()).unwrap();
            let (answer, body) = send.send_request(with_large_headers(request), false).unwrap();
            let refused = refused.clone();
            answers.spawn(async move {
                let answer = answer.await;
                let reason = answer.as_ref().err().and_then(h2::Error::reason);
                assert_eq!(reason, Some(Reason::REFUSED_STREAM), "{answer:?}");
                refused.fetch_add(1, Ordering::SeqCst);
            });
            open.push(body);
        }
        // The next connection begins when the requests of this one run or have been refused.
        wait_until("running and refused requests", async || {
            while let Some(answer) = answers.try_join_next() {
                answer.unwrap();
            }
            let running = scrape(app).await.has("http_requests_in_flight") as usize;
            running + refused.load(Ordering::SeqCst) == open.len()
        })
        .await;
    }
    (open, answers, refused.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_running_requests_of_an_address_are_bounded() {
    let app = metrics::spawn_with(|settings| {
        settings.server.body_timeout = 10 * WAIT_TIMEOUT;
    })
    .await;
    let (open, answers, refused) = open_large_requests(&app).await;
    let running = open.len() - refused;
    assert!(running * (STREAM + LARGE_HEADERS * LARGE_VALUE) <= ADDRESS_SHARE, "{running}");
    assert!(running > REQUESTS, "{running}");
    let rejected = scrape(&app).await.has("muster_http2_requests_rejected_total");
    assert_eq!(rejected, refused as f64);
    // Another address is served, and so is a short request on a new connection of the same address.
    for (source, request) in
        [("127.0.0.2", with_large_headers(get("/healthz"))), ("127.0.0.1", get("/healthz"))]
    {
        let mut send = connect_silent(&app, source).await;
        let (answer, _) = send.send_request(request, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200, "{source}");
    }
    drop((open, answers));
    wait_until("room for a request", async || {
        let mut send = connect_silent(&app, "127.0.0.1").await;
        let request = with_large_headers(get("/healthz"));
        let (answer, _) = send.send_request(request, true).unwrap();
        answer.await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_does_not_read_refusals_loses_its_connection() {
    /// The largest window of a stream, and of the connection.
    const SETTINGS: &[u8] = &[0, 4, 0x7f, 0xff, 0xff, 0xff];
    const WINDOW: &[u8] = &[0x7f, 0, 0, 0];
    /// More refusals than may wait.
    const MORE: u32 = 20;
    let app = metrics::spawn_with(|settings| {
        settings.server.body_timeout = 10 * WAIT_TIMEOUT;
        settings.server.write_timeout = Duration::from_secs(10);
    })
    .await;
    // Other connections of the address leave no room for a counted request.
    let (_open, _answers, _) = open_large_requests(&app).await;
    let refused = "muster_http2_requests_rejected_total";

    // The response to the first request does not fit into the sockets, and each further one is refused.
    let path = "/v1/openapi.json";
    let request = [&[0x82, 0x86, 0x41, 1, b'm', 0x04, path.len() as u8], path.as_bytes()].concat();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(app.address).await.unwrap();
    let preface = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        stream_frame(0, 4, 0, SETTINGS),
        stream_frame(0, 8, 0, WINDOW),
        frame(1, 5, &request),
    ];
    client.write_all(&preface.concat()).await.unwrap();
    let mut next = 3;
    let closed = "muster_connections_closed_total{reason=\"memory\"}";
    let is_closed = async || scrape(&app).await.has(closed) == 1.0;
    while !is_closed().await {
        let before = scrape(&app).await.has(refused);
        let more: Vec<_> =
            (0..MORE).map(|number| stream_frame(next + 2 * number, 1, 5, &request)).collect();
        next += 2 * MORE;
        // A closed connection takes nothing more.
        let _ = client.write_all(&more.concat()).await;
        // The next requests wait for these: more open requests than allowed violate the protocol.
        wait_until("the refusals, or the end of the connection", async || {
            scrape(&app).await.has(refused) - before == f64::from(MORE) || is_closed().await
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn violation_of_the_protocol_counts_as_the_reason_of_a_closed_connection() {
    let app = metrics::spawn().await;
    let mut client = TcpStream::connect(app.address).await.unwrap();
    // DATA belongs to no stream.
    let preface = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        stream_frame(0, 4, 0, &[]),
        stream_frame(0, 0, 0, b"x"),
    ];
    client.write_all(&preface.concat()).await.unwrap();
    let closed = "muster_connections_closed_total{reason=\"protocol\"}";
    wait_until("the end of the connection", async || scrape(&app).await.has(closed) == 1.0).await;
}

/// The answer to a request on each of some new connections, whose bodies are not read: its status, or 0
/// if it is refused.
async fn statuses(
    app: &TestApp,
    connections: usize,
    request: impl Fn() -> http::Request<()>,
) -> (Vec<u16>, Vec<impl Sized>) {
    let (mut found, mut open) = (Vec::new(), Vec::new());
    for _ in 0..connections {
        let mut send = connect_silent(app, "127.0.0.1").await;
        let answers: Vec<_> =
            (0..REQUESTS).map(|_| send.send_request(request(), true).unwrap().0).collect();
        for answer in answers {
            match answer.await {
                Ok(answer) => {
                    found.push(answer.status().as_u16());
                    open.push(answer);
                }
                Err(error) => {
                    // Its request has no room, or its response.
                    let reason = error.reason().unwrap();
                    assert!([Reason::REFUSED_STREAM, Reason::ENHANCE_YOUR_CALM].contains(&reason));
                    found.push(0);
                }
            }
        }
    }
    (found, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_responses_to_an_anonymous_caller_are_bounded() {
    let app = spawn_app_with(|settings| {
        settings.server.write_timeout = 10 * WAIT_TIMEOUT;
        settings.limits.max_failed_attempts = 0;
    })
    .await;
    let (found, open) = statuses(&app, 18, || get("/v1/sessions")).await;
    let answered = found.iter().filter(|status| **status == 401).count();
    assert_eq!((answered, found.contains(&0)), (open.len(), true));
    assert!(answered * STREAM <= ADDRESS_SHARE, "{answered}");
    let mut send = connect_silent(&app, "127.0.0.2").await;
    for _ in 0..REQUESTS {
        let (answer, _) = send.send_request(get("/v1/sessions"), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 401);
    }
    // A caller with a credential can begin, and needs no room of anonymous callers then.
    let mut send = connect_silent(&app, "127.0.0.1").await;
    for _ in 0..REQUESTS {
        let mut request = get("/v1/limits");
        let key = format!("Bearer {}", app.api_key).parse().unwrap();
        request.headers_mut().insert("authorization", key);
        let (answer, _) = send.send_request(request, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_responses_to_an_enterprise_leave_memory_to_others() {
    /// Half of the memory of all enterprises.
    const SHARE: usize = 64 * 1024 * 1024;
    let app = spawn_app_with(|settings| {
        settings.server.write_timeout = 10 * WAIT_TIMEOUT;
    })
    .await;
    let (_, other_key) = app.another_app(BUIN + 1, &[Permission::SessionsRead]).await;
    let limits = |key: &str| {
        let mut request = with_large_headers(get("/v1/limits"));
        let key = format!("Bearer {key}").parse().unwrap();
        request.headers_mut().insert("authorization", key);
        request
    };
    let (found, _open) = statuses(&app, 12, || limits(&app.api_key)).await;
    let served = found.iter().filter(|status| **status == 200).count();
    assert!(served * (STREAM + LARGE_HEADERS * LARGE_VALUE) <= SHARE, "{served}");
    assert!(served * 60 * 1024 > SHARE, "{served}");
    // A response that has no room is reset (0), and one without room for the request is refused.
    assert!(found.iter().all(|status| [200, 503, 0].contains(status)), "{found:?}");
    assert_eq!(found.last(), Some(&503), "{found:?}");
    let mut send = connect_silent(&app, "127.0.0.1").await;
    let (answer, _) = send.send_request(limits(&other_key), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
}
