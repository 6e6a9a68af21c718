//! Requests whose end two programs could see at different places. A proxy in front of Muster must
//! never take a part of a body for what Muster takes for the next request.

use std::net::SocketAddr;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{read_until_closed, spawn_with_short_timeouts};
use crate::harness::raw;
use crate::harness::spawn_app;

/// A request that a sender hides in the body of another.
const HIDDEN: &str = "GET /healthz HTTP/1.1\r\nHost: muster\r\n\r\n";

/// Header lines that leave open where the body ends, and the body.
fn ambiguous_requests() -> Vec<(Vec<u8>, String)> {
    let after_last_chunk = format!("0\r\n\r\n{HIDDEN}");
    let length = after_last_chunk.len();
    let encodings: [&[u8]; 14] = [
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: identity, chunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked;q=1",
        b"Transfer-Encoding: \x0bchunked",
        b"Transfer-Encoding: \"chunked\"",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"X-First: a\r\n Transfer-Encoding: chunked",
        b"X-First: a\rTransfer-Encoding: chunked",
        b"X-First: \0a\r\nTransfer-Encoding: chunked",
    ];
    let mut requests = Vec::new();
    for encoding in encodings {
        let content_length = format!("Content-Length: {length}\r\n").into_bytes();
        let encoding = [encoding, b"\r\n"].concat();
        requests.push(([&*content_length, &*encoding].concat(), after_last_chunk.clone()));
        requests.push(([&*encoding, &*content_length].concat(), after_last_chunk.clone()));
    }
    for value in
        ["+2", "-2", "0x2", "2, 2", "2, 40", "2 2", "2;", "", "2e0", "18446744073709551618"]
    {
        let line = format!("Content-Length: {value}\r\n").into_bytes();
        requests.push((line, format!("{{}}{HIDDEN}")));
    }
    let two_lengths = format!("Content-Length: 2\r\nContent-Length: {}\r\n", 2 + HIDDEN.len());
    requests.push((two_lengths.into_bytes(), format!("{{}}{HIDDEN}")));
    for chunks in [
        "0x2\r\n{}\r\n0\r\n\r\n",
        "+2\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "2\n{}\r\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "2\r\n{}\n0\r\n\r\n",
        "\r\n2\r\n{}\r\n0\r\n\r\n",
        "10000000000000002\r\n{}\r\n0\r\n\r\n",
    ] {
        let line = b"Transfer-Encoding: chunked\r\n".to_vec();
        requests.push((line, format!("{chunks}{HIDDEN}")));
    }
    requests
}

/// Sends a token request with header lines and a body, and returns the number of responses.
async fn count_responses(address: SocketAddr, lines: &[u8], body: &str) -> (usize, String) {
    let head = b"POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\n";
    let request = [head, lines, b"\r\n", body.as_bytes()].concat();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let received = read_until_closed(&mut stream).await;
    let received = String::from_utf8_lossy(&received);
    let sent = String::from_utf8_lossy(&request);
    (received.matches("HTTP/1.1 ").count(), format!("{sent:?}: {received:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_requests_carry_no_second_request() {
    let app = spawn_with_short_timeouts().await;
    let requests = ambiguous_requests();
    let sent = requests.iter().map(|(lines, body)| count_responses(app.address, lines, body));
    let results = join_all(sent).await;
    let wrong: Vec<_> = results.iter().filter(|(responses, _)| *responses > 1).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The hidden request would be seen.
    let closing = HIDDEN.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let body = format!("{{}}{closing}");
    let (responses, received) = count_responses(app.address, b"Content-Length: 2\r\n", &body).await;
    assert_eq!(responses, 2, "{received}");
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_of_another_protocol_are_ignored() {
    let app = spawn_app().await;
    let body = r#"{"operator":"a","title":"t","member":["b","c"]}"#;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    for offer in [
        "Connection: Upgrade\r\nUpgrade: websocket",
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket",
        "Upgrade: websocket",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        "connection:upgrade\r\nUPGRADE:foo",
    ] {
        let head = format!(
            "HTTP/1.1\r\nHost: muster\r\nAuthorization: Bearer {}\r\n{offer}\r\n",
            app.api_key
        );
        let get = format!("GET /v1/limits {head}\r\n");
        let post = format!("POST /v1/sessions {head}Content-Length: {}\r\n\r\n{body}", body.len());
        // The connection stays one of HTTP/1, also for a request that comes in parts.
        for (request, status) in [(&get, 200), (&post, 201)] {
            for parts in [1, 2, request.len()] {
                for part in request.as_bytes().chunks(request.len().div_ceil(parts)) {
                    stream.write_all(part).await.unwrap();
                }
                let got = raw::read_response(&mut stream).await;
                assert_eq!((got.status, got.header("connection")), (status, None), "{offer}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_for_a_client_of_http_1_0_has_no_chunks_and_ends_with_the_connection() {
    let app = spawn_app().await;
    app.session(&["a", "b", "c"]).await;
    let head = |rest: &str| {
        let key = &app.api_key;
        format!(
            "HTTP/1.0\r\nHost: muster\r\nConnection: keep-alive\r\nAuthorization: Bearer {key}\r\n{rest}\r\n"
        )
    };
    let lines = "{\"sessionId\":\"8AD595F3-73B3-4B56-90AF-F336F9222FC5\",\"version\":1}\n";
    let length = lines.len();
    let media_type = "Content-Type: application/x-ndjson\r\n";
    let compare = head(&format!("{media_type}Content-Length: {length}\r\n"));
    let compare = format!("POST /v1/sessions/compare {compare}{lines}");
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(compare.as_bytes()).await.unwrap();
    let compared = String::from_utf8(read_until_closed(&mut stream).await).unwrap();
    let (compared_head, body) = compared.split_once("\r\n\r\n").unwrap();
    for line in body.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    assert!(body.contains("8AD595F3"), "{compared}");

    // Its end is that of the server.
    let events = format!("GET /v1/events?after=0 {}", head("Accept: text/event-stream\r\n"));
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(events.as_bytes()).await.unwrap();
    let mut events = Vec::new();
    while !events.windows(6).any(|part| part == b"data: ") {
        assert_ne!(stream.read_buf(&mut events).await.unwrap(), 0, "closed");
    }
    app.shutdown_signal.stop();
    events.extend(read_until_closed(&mut stream).await);
    let events = String::from_utf8(events).unwrap();
    let (events_head, body) = events.split_once("\r\n\r\n").unwrap();
    assert!(body.starts_with(": changes follow\n\n"), "{events}");
    for head in [compared_head, events_head] {
        let head = head.to_ascii_lowercase();
        assert!(head.contains(" 200 ok\r\n") && !head.contains("transfer-encoding"), "{head}");
        assert!(!head.contains("connection: keep-alive"), "{head}");
    }
}
