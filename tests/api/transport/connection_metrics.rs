//! Metrics of open connections and of connections that the server closed.

use chrono::DateTime;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::slow_readers::{connect_with_small_buffer, create_large_session};
use super::{CertificateFiles, SHORT_TIMEOUT, WAIT_TIMEOUT, read_until_closed, spawn_tls_app};
use crate::harness::{TestApp, raw};
use crate::metrics::{scrape, spawn_with};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: muster\r\n\r\n";
const POST: &str = "POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\nContent-Length: 9\r\n\r\n{";
/// The preface and the beginning of a frame.
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0";

/// A connection that has served a request.
async fn connect_and_request(app: &TestApp) -> TcpStream {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(HEALTH).await.unwrap();
    assert_eq!(raw::read_response(&mut stream).await.status, 200);
    stream
}

/// Waits until all connections have ended. Returns the numbers of connections closed during the
/// handshake, the header section, the body and the write.
async fn closed_by_reason(app: &TestApp) -> [f64; 4] {
    let metrics = async {
        loop {
            let metrics = scrape(app).await;
            if metrics.has("muster_connections") == 0.0 {
                return metrics;
            }
        }
    };
    let metrics = timeout(WAIT_TIMEOUT, metrics).await.expect("connections stay open");
    ["handshake", "header", "body", "write"].map(|reason| {
        metrics.has(&format!("muster_connections_closed_total{{reason=\"{reason}\"}}"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn open_connections_are_counted_until_they_end() {
    let app = spawn_with(|settings| {
        settings.server.max_connections = 7;
        settings.server.workers = 2;
    })
    .await;
    let connections = [0; 3].map(|_| connect_and_request(&app));
    let open = futures_util::future::join_all(connections).await;
    let metrics = scrape(&app).await;
    assert_eq!(metrics.has("muster_connections"), 3.0);
    // The limit is rounded up to the same number for each thread.
    assert_eq!(metrics.has("muster_max_connections"), 8.0);
    drop(open);
    assert_eq!(closed_by_reason(&app).await, [0.0; 4], "clients closed them");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_counted_by_reason_and_idle_clients_are_not() {
    let app = spawn_with(|settings| {
        settings.server.header_timeout = SHORT_TIMEOUT;
        settings.server.body_timeout = SHORT_TIMEOUT;
        settings.server.write_timeout = SHORT_TIMEOUT;
        settings.server.keep_alive_timeout = 2 * SHORT_TIMEOUT;
    })
    .await;
    read_until_closed(&mut connect_and_request(&app).await).await;
    assert_eq!(closed_by_reason(&app).await, [0.0; 4], "idle");
    // A refused request is not a slow one.
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(b"GET / HTTP/9\r\n\r\n").await.unwrap();
    assert!(read_until_closed(&mut stream).await.starts_with(b"HTTP/1.1 400 "));
    assert_eq!(closed_by_reason(&app).await, [0.0; 4], "refused");

    read_until_closed(&mut TcpStream::connect(app.address).await.unwrap()).await;
    assert_eq!(closed_by_reason(&app).await, [1.0, 0.0, 0.0, 0.0], "silent");

    for (case, is_used, start, headers, bodies) in [
        ("the first header section", false, "GET /", 1.0, 0.0),
        ("another header section", true, "GET /", 2.0, 0.0),
        ("a frame", false, PREFACE, 3.0, 0.0),
        ("a body", false, POST, 3.0, 1.0),
    ] {
        let mut stream = match is_used {
            true => connect_and_request(&app).await,
            false => TcpStream::connect(app.address).await.unwrap(),
        };
        stream.write_all(start.as_bytes()).await.unwrap();
        read_until_closed(&mut stream).await;
        assert_eq!(closed_by_reason(&app).await, [1.0, headers, bodies, 0.0], "{case}");
    }

    let flood = create_large_session(&app).await.repeat(16);
    let mut stream = connect_with_small_buffer(&app).await;
    let sending = async { while stream.write_all(flood.as_bytes()).await.is_ok() {} };
    timeout(WAIT_TIMEOUT, sending).await.expect("the server never closes the connection");
    assert_eq!(closed_by_reason(&app).await, [1.0, 3.0, 1.0, 1.0], "not reading");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_handshakes_are_counted() {
    let certificate = CertificateFiles::new();
    let app = spawn_with(|settings| {
        settings.server.tls = Some(certificate.files());
        settings.server.header_timeout = SHORT_TIMEOUT;
    })
    .await;
    // The client closes this connection.
    drop(certificate.connect(app.address, "http/1.1").await);
    assert_eq!(closed_by_reason(&app).await, [0.0; 4]);
    for (start, handshakes) in [(HEALTH, 1.0), (b"\x16\x03", 2.0)] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(start).await.unwrap();
        read_until_closed(&mut stream).await;
        assert_eq!(closed_by_reason(&app).await, [handshakes, 0.0, 0.0, 0.0]);
    }
    read_until_closed(&mut certificate.connect(app.address, "http/1.1").await).await;
    let closed = closed_by_reason(&app).await;
    assert_eq!(closed, [2.0, 1.0, 0.0, 0.0], "no request after the handshake");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_expiry_is_exported() {
    const EXPIRY: &str = "muster_tls_certificate_not_after_timestamp_seconds";
    let plain = spawn_with(|_| {}).await;
    assert_eq!(scrape(&plain).await.has(EXPIRY), 0.0);
    let certificate = CertificateFiles::new();
    let end = |year: i64| DateTime::from_timestamp(year * 31_536_000, 0).unwrap();
    certificate.renew_until(end(70));
    let app = spawn_tls_app(&certificate, |settings| {
        settings.metrics.bind = Some("127.0.0.1:0".to_owned());
    })
    .await;
    for year in [70, 71] {
        certificate.renew_until(end(year));
        let metrics =
            async { while scrape(&app).await.has(EXPIRY) != end(year).timestamp() as f64 {} };
        timeout(WAIT_TIMEOUT, metrics).await.expect("the new expiry is never exported");
    }
}
