//! Lines of a header section end with CR LF. A proxy in front may see one line where a bare LF would
//! begin another one.

use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{CertificateFiles, read_until_closed, spawn_tls_app};
use crate::harness::{TestApp, raw, spawn_app};

/// A body with line ends of all kinds and an empty line.
const BODY: &str =
    "{\n\"title\": \"t\",\r\n\r\n\n\"creator\": \"a\",\n\n\"member\": [\"b\", \"c\"]\r\n}\n";

fn create(app: &TestApp, headers: &str, body: &str) -> String {
    let path = format!("/cgi/session/create?accessToken={}", app.api_key);
    format!("POST {path} HTTP/1.1\r\nHost: muster\r\n{headers}\r\n{body}")
}

/// Complete requests with each kind of body.
fn valid(app: &TestApp) -> [String; 4] {
    let length = BODY.len();
    let chunks = format!("{length:x}; a=b\r\n{BODY}\r\n0\r\nX-Trailer: y\r\n\r\n");
    [
        "GET /healthz HTTP/1.1\r\nHost: muster\r\n\r\n".to_owned(),
        create(app, &format!("content-LENGTH:  {length}\r\n"), BODY),
        create(app, "Transfer-Encoding: Chunked\r\n", &chunks),
        // Some clients send a line end after a body.
        create(app, &format!("Content-Length: {length}\r\n"), BODY) + "\r\n\n",
    ]
}

/// Requests with a bare LF in their header section.
fn invalid(app: &TestApp) -> Vec<String> {
    let get = |rest: &str| format!("GET /healthz HTTP/1.1{rest}");
    let length = format!("Content-Length: {}\r\n", BODY.len());
    vec![
        get("\nHost: muster\r\n\r\n"),
        get("\r\nHost: muster\n\r\n"),
        get("\r\nHost: muster\r\n\n"),
        get("\nHost: muster\n\n"),
        get("\r\nHost: muster\r\nX-Long: a\nX-Hidden: b\r\n\r\n"),
        get("\r\nHost: muster\r\nX-Empty:\n\r\n"),
        create(app, &format!("X-Hidden: a\n{length}"), BODY),
        create(app, &format!("{length}X-Hidden: a\n"), BODY),
        create(app, &length.replace('\r', ""), BODY),
        create(app, "Transfer-Encoding: chunked\n", "2\r\n{}\r\n0\r\n\r\n"),
    ]
}

/// Sends a request in one piece or in two.
async fn send(stream: &mut (impl AsyncWrite + Unpin), request: &str, split_at: usize) {
    let (first, second) = request.as_bytes().split_at(split_at);
    stream.write_all(first).await.unwrap();
    stream.flush().await.unwrap();
    // The server may have closed the connection.
    let _ = stream.write_all(second).await;
    let _ = stream.flush().await;
}

/// Sends valid requests and then an invalid one.
async fn check(
    app: &TestApp,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    invalid: &str,
    split_at: usize,
) {
    for request in valid(app) {
        send(stream, &request, request.len().min(split_at)).await;
        let got = raw::read_response(stream).await;
        assert_eq!(got.status, 200, "{request:?}");
        assert!([&json!("ok"), &json!(null)].contains(&&got.json()["status"]), "{got:?}");
        assert!([&json!(0), &json!(null)].contains(&&got.json()["errcode"]), "{got:?}");
    }
    send(stream, invalid, split_at).await;
    let got = read_until_closed(stream).await;
    assert!(got.starts_with(b"HTTP/1.1 400 "), "{invalid:?}: {}", String::from_utf8_lossy(&got));
    assert_eq!(got.windows(5).filter(|part| part == b"HTTP/").count(), 1, "{invalid:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_line_feed_in_a_header_section_is_refused() {
    let app = spawn_app().await;
    for invalid in invalid(&app) {
        let line_feed = invalid.replace("\r\n", "  ").find('\n').unwrap();
        for split_at in [0, 5, line_feed, line_feed + 1] {
            let mut stream = TcpStream::connect(app.address).await.unwrap();
            check(&app, &mut stream, &invalid, split_at).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_line_feed_is_refused_over_tls() {
    let certificate = CertificateFiles::new();
    let app = spawn_tls_app(&certificate, |_| {}).await;
    for invalid in invalid(&app) {
        let mut stream = certificate.connect(app.address, "http/1.1").await;
        check(&app, &mut stream, &invalid, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_line_feed_in_a_pipelined_request_is_refused() {
    let app = spawn_app().await;
    for invalid in invalid(&app) {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        let all = valid(&app).concat() + &invalid;
        stream.write_all(all.as_bytes()).await.unwrap();
        for _ in valid(&app) {
            assert_eq!(raw::read_response(&mut stream).await.status, 200, "{invalid:?}");
        }
        let got = read_until_closed(&mut stream).await;
        assert!(got.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&got));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_line_feed_in_a_trailer_is_refused() {
    let app = spawn_app().await;
    for trailer in ["X: y\nZ: w\r\n\r\n", "X: y\n\r\n", "X: y\n\n", "\n", "X: y\r\n\n"] {
        let body = format!("{:x}\r\n{BODY}\r\n0\r\n{trailer}", BODY.len());
        let request = create(&app, "Transfer-Encoding: chunked\r\n", &body) + "GET / HTTP/1.1\r\n";
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let got = raw::read_response(&mut stream).await;
        assert_eq!(got.json()["errcode"], 100_004, "{trailer:?}: {got:?}");
        read_until_closed(&mut stream).await;
    }
}
