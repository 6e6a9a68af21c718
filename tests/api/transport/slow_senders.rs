//! Slow senders: each part of a request stalls or arrives slowly, on a new connection and on a used
//! one.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{
    SHORT_TIMEOUT, WAIT_TIMEOUT, read_until_closed, read_until_closed_while, send_slowly,
    spawn_with_short_timeouts,
};
use crate::harness::{raw, spawn_app_with};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: muster\r\n\r\n";
const HEAD: &str = "POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\n";

/// The part that is sent at first, and the part that is sent slowly or not at all.
fn parts() -> [(&'static str, String, &'static str); 5] {
    [
        ("the request line", String::new(), "GET /healthz?"),
        ("the header", HEAD.to_owned(), "X-Slow: "),
        ("a body", format!("{HEAD}Content-Length: 4000\r\n\r\n{{"), " "),
        ("a chunk", format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nfffff\r\n{{"), " "),
        ("a chunk's header", format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n1"), ";x"),
    ]
}

async fn connect(address: SocketAddr, used: bool) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    if used {
        stream.write_all(HEALTH).await.unwrap();
        assert_eq!(raw::read_response(&mut stream).await.status, 200);
    }
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_requests_time_out() {
    // The framework times the first header with a clock that advances in steps of 500 ms, so a
    // connection may be closed up to 500 ms early.
    const TIMEOUT: Duration = SHORT_TIMEOUT.saturating_mul(4);
    let app = spawn_app_with(|settings| {
        settings.server.header_timeout = TIMEOUT;
        settings.server.body_timeout = TIMEOUT;
        settings.server.keep_alive_timeout = 10 * WAIT_TIMEOUT;
    })
    .await;
    let mut calls = JoinSet::new();
    for (part, first_part, slow) in parts() {
        for used in [false, true] {
            for sends_slowly in [false, true] {
                let case = format!("{part} {used} {sends_slowly}");
                let first_part = first_part.clone();
                let address = app.address;
                calls.spawn(async move {
                    let started_at = Instant::now();
                    let mut stream = connect(address, used).await;
                    stream.write_all(first_part.as_bytes()).await.unwrap();
                    let (mut reader, mut writer) = stream.split();
                    let answer = if sends_slowly {
                        let sending = send_slowly(&mut writer, slow.as_bytes());
                        read_until_closed_while(&mut reader, sending).await
                    } else {
                        // A used connection without a byte of a request is idle, not slow.
                        writer.write_all(&slow.as_bytes()[..1]).await.unwrap();
                        read_until_closed(&mut reader).await
                    };
                    let elapsed = started_at.elapsed();
                    assert!(elapsed >= TIMEOUT / 2, "{case}: closed after {elapsed:?}");
                    let answer = String::from_utf8(answer).unwrap();
                    let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 408 ");
                    assert!(refused, "{case}: {answer}");
                });
            }
        }
    }
    calls.join_all().await;
    app.session(&["a", "b", "c"]).await;
}

/// Complete requests: without a body, and with bodies of both kinds. Bodies may hold empty lines.
fn complete_requests() -> [String; 4] {
    let post = |body: &str| format!("{HEAD}Content-Length: {}\r\n\r\n{body}", body.len());
    [
        String::from_utf8(HEALTH.to_vec()).unwrap(),
        post("{}"),
        post("{\r\n\r\n}\n"),
        format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_pipelined_request_times_out() {
    let app = spawn_with_short_timeouts().await;
    let mut calls = JoinSet::new();
    for before in complete_requests() {
        for sends_slowly in [false, true] {
            let (before, address) = (before.clone(), app.address);
            calls.spawn(async move {
                let started_at = Instant::now();
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(format!("{before}POST /cgi/sess").as_bytes()).await.unwrap();
                assert_eq!(raw::read_response(&mut stream).await.status, 200);
                let (mut reader, mut writer) = stream.split();
                let sending = async {
                    if sends_slowly {
                        send_slowly(&mut writer, b"ion").await;
                    }
                };
                let rest = read_until_closed_while(&mut reader, sending).await;
                let elapsed = started_at.elapsed();
                assert!(rest.is_empty(), "{before:?} {sends_slowly}: {rest:?}");
                assert!(elapsed >= SHORT_TIMEOUT, "{before:?} {sends_slowly}: {elapsed:?}");
            });
        }
    }
    calls.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_with_complete_requests_is_idle() {
    let app = spawn_with_short_timeouts().await;
    let mut calls = JoinSet::new();
    for complete in complete_requests() {
        // Some clients send a line break after a body.
        for suffix in ["", "\r\n"] {
            let (request, address) = (format!("{complete}{suffix}"), app.address);
            calls.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                for _ in 0..2 {
                    stream.write_all(request.as_bytes()).await.unwrap();
                    assert_eq!(raw::read_response(&mut stream).await.status, 200);
                    let closes = timeout(2 * SHORT_TIMEOUT, stream.peek(&mut [0])).await;
                    assert!(closes.is_err(), "closed behind {request:?}");
                }
            });
        }
    }
    calls.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connection_times_out() {
    let app = spawn_with_short_timeouts().await;
    read_until_closed(&mut connect(app.address, false).await).await;

    let app = spawn_app_with(|settings| settings.server.keep_alive_timeout = SHORT_TIMEOUT).await;
    let started_at = Instant::now();
    let mut stream = connect(app.address, true).await;
    let rest = read_until_closed(&mut stream).await;
    let elapsed = started_at.elapsed();
    assert!(rest.is_empty() && elapsed >= SHORT_TIMEOUT, "{elapsed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_stays_open_while_requests_arrive() {
    // A pause of a busy machine must be shorter than this.
    const KEEP_ALIVE: Duration = Duration::from_secs(4);
    let app = spawn_app_with(|settings| {
        settings.server.header_timeout = KEEP_ALIVE;
        settings.server.keep_alive_timeout = KEEP_ALIVE;
    })
    .await;
    let mut stream = connect(app.address, true).await;
    let mut interval = tokio::time::interval(KEEP_ALIVE / 20);
    // The requests arrive for twice as long as the timeouts.
    for _ in 0..=40 {
        interval.tick().await;
        stream.write_all(HEALTH).await.unwrap();
        assert_eq!(raw::read_response(&mut stream).await.status, 200);
    }
    // Two pipelined requests, the second in two halves.
    stream.write_all(HEALTH).await.unwrap();
    stream.write_all(&HEALTH[..20]).await.unwrap();
    assert_eq!(raw::read_response(&mut stream).await.status, 200);
    stream.write_all(&HEALTH[20..]).await.unwrap();
    assert_eq!(raw::read_response(&mut stream).await.status, 200);
    assert!(read_until_closed(&mut stream).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_do_not_block_other_clients() {
    const SLOW: usize = 300;
    // The timeouts are longer than the test.
    let app = spawn_app_with(|settings| {
        settings.server.header_timeout = 10 * WAIT_TIMEOUT;
        settings.server.body_timeout = 10 * WAIT_TIMEOUT;
    })
    .await;
    let mut senders = JoinSet::new();
    for number in 0..SLOW {
        let mut stream = connect(app.address, number % 2 == 0).await;
        let (_, first_part, slow) = parts()[number % 5].clone();
        senders.spawn(async move {
            stream.write_all(first_part.as_bytes()).await.unwrap();
            send_slowly(&mut stream, slow.as_bytes()).await;
        });
    }
    for _ in 0..20 {
        app.session(&["a", "b", "c"]).await;
    }
    assert_eq!(senders.len(), SLOW);
    assert!(senders.try_join_next().is_none(), "a slow sender was cut off");
    senders.abort_all();
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_connections_time_out_too() {
    let app = spawn_app_with(|settings| {
        settings.server.header_timeout = SHORT_TIMEOUT;
        settings.metrics.bind = Some("127.0.0.1:0".to_owned());
    })
    .await;
    let address = app.metrics.unwrap();
    for used in [false, true] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if used {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: muster\r\n\r\n").await.unwrap();
            assert_eq!(raw::read_response(&mut stream).await.status, 200);
        }
        let (mut reader, mut writer) = stream.split();
        let header = b"GET /metrics HTTP/1.1\r\nX-Slow: ";
        read_until_closed_while(&mut reader, send_slowly(&mut writer, header)).await;
    }
}
