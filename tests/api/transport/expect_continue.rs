//! `Expect: 100-continue`: a client sends the body of its request after it was asked.

use std::future::poll_fn;

use actix_web::web::Bytes;
use futures_util::future::join_all;
use h2::client;
use muster::domain::Permission;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::read_until_closed;
use crate::bodies::{body, code, head, refused_by_header, without_timeouts};
use crate::harness::raw::{self, RawResponse};
use crate::harness::{BUIN, TestApp, spawn_app_with};

const EXPECT: &str = "Expect: 100-continue\r\n";
const ASKED: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// A request header for a body of `length` bytes, of a client that waits.
fn waiting(path: &str, headers: &str, length: usize) -> String {
    head(path, &format!("{headers}{EXPECT}Content-Length: {length}\r\n"))
}

fn create_path(app: &TestApp) -> String {
    format!("/cgi/session/create?accessToken={}", app.api_key)
}

async fn assert_asked(stream: &mut TcpStream) {
    let mut interim = [0; ASKED.len()];
    tokio::time::timeout(super::WAIT_TIMEOUT, stream.read_exact(&mut interim))
        .await
        .expect("the client is not asked")
        .unwrap();
    assert_eq!(str::from_utf8(&interim).unwrap(), ASKED);
}

/// The response to a header whose body is never sent. The server closes the connection.
async fn answer_without_body(app: &TestApp, head: &str) -> RawResponse {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let response = raw::read_response(&mut stream).await;
    assert!(read_until_closed(&mut stream).await.is_empty());
    assert_eq!(response.header("connection"), Some("close"), "{head}");
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_caller_is_not_asked_for_the_body() {
    let app = spawn_app_with(without_timeouts).await;
    let (_, denied) = app.another_app(BUIN, &[Permission::Callbacks]).await;
    let cases =
        refused_by_header(&app, &denied).into_iter().flat_map(|(path, headers, expected)| {
            // Even a body that would be read and dropped is not asked for.
            let announced = waiting(&path, &headers, 200);
            let chunked = head(&path, &format!("{headers}{EXPECT}Transfer-Encoding: chunked\r\n"));
            [announced, chunked].map(|request| (request, expected.clone()))
        });
    // At the same time, because the server waits for the body of each before it closes the connection.
    let checks = cases.map(async |(request, expected)| {
        assert_eq!(code(&answer_without_body(&app, &request).await), expected, "{request}");
    });
    join_all(checks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_its_header_refuses_is_not_asked_for_the_body() {
    let app = spawn_app_with(|settings| {
        without_timeouts(settings);
        settings.limits.max_body_bytes = 2_000;
        settings.limits.max_body_bytes_in_flight = 4_000;
        settings.limits.max_uri_bytes = 1_024;
        settings.limits.max_headers = 8;
    })
    .await;
    let bearer = format!("Authorization: Bearer {}\r\n", app.api_key);
    let long_path = format!("/v1/sessions?{}", "x".repeat(1_100));
    let many = "x: y\r\n".repeat(9);
    for (path, headers, length, status) in [
        ("/v1/sessions", &bearer, 2_001, 413),
        (&create_path(&app), &String::new(), 2_001, 413),
        ("/cgi/gettoken", &String::new(), 4_097, 413),
        ("/v1/nothing", &bearer, 9, 404),
        (&long_path, &bearer, 9, 414),
        ("/healthz", &String::new(), 9, 405),
        ("/v1/sessions", &many, 9, 431),
    ] {
        let got = answer_without_body(&app, &waiting(path, headers, length)).await;
        assert_eq!(got.status, status, "{path} {length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn known_caller_is_asked_once_and_keeps_the_connection() {
    let app = spawn_app_with(without_timeouts).await;
    let content = body(200);
    let path = create_path(&app);
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    for expectation in [EXPECT, "expect: 100-Continue\r\n", "Expect: other, 100-continue\r\n"] {
        let request = head(&path, &format!("{expectation}Content-Length: 200\r\n"));
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_asked(&mut stream).await;
        stream.write_all(content.as_bytes()).await.unwrap();
        let got = raw::read_response(&mut stream).await;
        assert_eq!((code(&got), got.header("connection")), (json!(0), None), "{}", got.json());
    }
    // In chunks, and with the first bytes before the server asks.
    let chunked = head(&path, &format!("{EXPECT}Transfer-Encoding: chunked\r\n"));
    let (first, rest) = content.split_at(100);
    stream.write_all(format!("{chunked}64\r\n{first}\r\n").as_bytes()).await.unwrap();
    assert_asked(&mut stream).await;
    stream.write_all(format!("64\r\n{rest}\r\n0\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(code(&raw::read_response(&mut stream).await), json!(0));
    // With the whole body and the next request at once.
    let eager = waiting(&path, "", 200) + &content;
    stream.write_all(eager.repeat(2).as_bytes()).await.unwrap();
    for _ in 0..2 {
        assert_asked(&mut stream).await;
        assert_eq!(code(&raw::read_response(&mut stream).await), json!(0));
    }
    // The proof of a token request is in its body.
    let token_request = waiting("/cgi/gettoken", "", 4_096);
    stream.write_all(token_request.as_bytes()).await.unwrap();
    assert_asked(&mut stream).await;
    // HTTP/1.0 has no interim responses.
    let mut old = TcpStream::connect(app.address).await.unwrap();
    let request = waiting(&path, "", 200).replace("HTTP/1.1", "HTTP/1.0") + &content;
    old.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(code(&raw::read_response(&mut old).await), json!(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_was_asked_and_sends_nothing_is_timed_out() {
    let app = super::spawn_with_short_timeouts().await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(waiting(&create_path(&app), "", 200).as_bytes()).await.unwrap();
    assert_asked(&mut stream).await;
    assert_eq!(raw::read_response(&mut stream).await.status, 408);
    read_until_closed(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_asks_in_the_same_way() {
    let app = spawn_app_with(without_timeouts).await;
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (mut send, connection) = client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let post = |key: &str| {
        http::Request::post(format!("http://muster/cgi/session/create?accessToken={key}"))
            .header("expect", "100-continue")
            .body(())
            .unwrap()
    };
    for key in ["", "forged"] {
        let (mut response, mut sending) = send.send_request(post(key), false).unwrap();
        let interim = poll_fn(|cx| response.poll_informational(cx)).await;
        assert!(interim.is_none(), "{key}: {interim:?}");
        assert_ne!(read_json(response.await.unwrap()).await["errcode"], 0);
        sending.send_reset(h2::Reason::CANCEL);
    }
    let (mut response, mut sending) = send.send_request(post(&app.api_key), false).unwrap();
    let interim = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
    assert_eq!(interim.status(), 100);
    sending.send_data(Bytes::from(body(200)), true).unwrap();
    assert_eq!(read_json(response.await.unwrap()).await["errcode"], 0);
}

async fn read_json(response: http::Response<h2::RecvStream>) -> Value {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    serde_json::from_slice(&bytes).unwrap()
}
