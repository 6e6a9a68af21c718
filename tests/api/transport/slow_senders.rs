//! Slow senders: each part of a request stalls or drips, on a new connection or a used one.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{BRIEF, SOON, closed_soon, closed_while, drip, impatient, timed};
use crate::harness::{raw, spawn_app_with};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: muster\r\n\r\n";
const HEAD: &str = "POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\n";

/// The part that is sent at once, and the part that drips.
fn parts() -> [(&'static str, String, &'static str); 5] {
    [
        ("the request line", String::new(), "GET /healthz?"),
        ("the head", HEAD.to_owned(), "X-Slow: "),
        ("a body", format!("{HEAD}Content-Length: 100000\r\n\r\n{{"), " "),
        ("a chunk", format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nfffff\r\n{{"), " "),
        ("a chunk's head", format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n1"), ";x"),
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
    let app = impatient().await;
    let mut calls = JoinSet::new();
    for (part, at_once, slow) in parts() {
        for used in [false, true] {
            for drips in [false, true] {
                let (at_once, case) = (at_once.clone(), format!("{part} {used} {drips}"));
                let address = app.address;
                calls.spawn(async move {
                    let began = Instant::now();
                    let mut stream = connect(address, used).await;
                    stream.write_all(at_once.as_bytes()).await.unwrap();
                    let (mut reads, mut writes) = stream.split();
                    let answer = if drips {
                        closed_while(&mut reads, drip(&mut writes, slow.as_bytes())).await
                    } else {
                        // A used connection without a byte of a request is idle, not slow.
                        writes.write_all(&slow.as_bytes()[..1]).await.unwrap();
                        closed_soon(&mut reads).await
                    };
                    let elapsed = began.elapsed();
                    assert!(elapsed >= BRIEF / 2, "{case}: cut off after {elapsed:?}");
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
fn whole() -> [String; 4] {
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
    let app = impatient().await;
    let mut calls = JoinSet::new();
    for before in whole() {
        for drips in [false, true] {
            let (before, address) = (before.clone(), app.address);
            calls.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(format!("{before}POST /cgi/sess").as_bytes()).await.unwrap();
                assert_eq!(raw::read_response(&mut stream).await.status, 200);
                let (mut reads, mut writes) = stream.split();
                let dripping = async {
                    if drips {
                        drip(&mut writes, b"ion").await;
                    }
                };
                let (rest, elapsed) = timed(closed_while(&mut reads, dripping)).await;
                assert!(rest.is_empty() && elapsed >= BRIEF / 2, "{before:?} {drips}: {elapsed:?}");
            });
        }
    }
    calls.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_with_complete_requests_is_idle() {
    let app = impatient().await;
    let mut calls = JoinSet::new();
    for whole in whole() {
        // Some clients send a line break after a body.
        for behind in ["", "\r\n"] {
            let (request, address) = (format!("{whole}{behind}"), app.address);
            calls.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                for _ in 0..2 {
                    stream.write_all(request.as_bytes()).await.unwrap();
                    assert_eq!(raw::read_response(&mut stream).await.status, 200);
                    let closes = timeout(2 * BRIEF, stream.peek(&mut [0])).await;
                    assert!(closes.is_err(), "closed behind {request:?}");
                }
            });
        }
    }
    calls.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connection_times_out() {
    let app = impatient().await;
    closed_soon(&mut connect(app.address, false).await).await;

    let app = spawn_app_with(|settings| settings.server.keep_alive_timeout = BRIEF).await;
    let mut stream = connect(app.address, true).await;
    let (rest, elapsed) = timed(closed_soon(&mut stream)).await;
    assert!(rest.is_empty() && elapsed >= BRIEF / 2, "{elapsed:?}");
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
    let began = Instant::now();
    let mut interval = tokio::time::interval(KEEP_ALIVE / 20);
    while began.elapsed() < 2 * KEEP_ALIVE {
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
    assert!(closed_soon(&mut stream).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_do_not_block_other_clients() {
    const SLOW: usize = 300;
    // The timeouts are longer than the test.
    let app = spawn_app_with(|settings| {
        settings.server.header_timeout = 10 * SOON;
        settings.server.body_timeout = 10 * SOON;
    })
    .await;
    let mut senders = JoinSet::new();
    for number in 0..SLOW {
        let mut stream = connect(app.address, number % 2 == 0).await;
        let (_, at_once, slow) = parts()[number % 5].clone();
        senders.spawn(async move {
            stream.write_all(at_once.as_bytes()).await.unwrap();
            drip(&mut stream, slow.as_bytes()).await;
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
        settings.server.header_timeout = BRIEF;
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
        let (mut reads, mut writes) = stream.split();
        let head = b"GET /metrics HTTP/1.1\r\nX-Slow: ";
        closed_while(&mut reads, drip(&mut writes, head)).await;
    }
}
