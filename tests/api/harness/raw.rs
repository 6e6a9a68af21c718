//! Hand-written HTTP, for requests that no client library sends.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::process::WAIT_TIMEOUT;

/// A response without interpretation.
#[derive(Debug)]
pub struct RawResponse {
    pub status: u16,
    /// The header lines, names in lower case.
    pub head: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl RawResponse {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Sends a request on a new connection, and closes it after the response.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> RawResponse {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let response = read_response(&mut stream).await;
    stream.shutdown().await.unwrap();
    assert_closed(&mut stream).await;
    response
}

/// Sends a request on a new connection, and waits until the server closes it.
pub async fn send_until_closed(address: SocketAddr, request: Vec<u8>) -> RawResponse {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let response = read_response(&mut stream).await;
    assert_closed(&mut stream).await;
    response
}

/// Waits until the server closes a connection without more bytes.
pub async fn assert_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    with_timeout(stream.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

/// Reads one response.
pub async fn read_response(stream: &mut (impl AsyncRead + Unpin)) -> RawResponse {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(with_timeout(stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let head: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = RawResponse { status, head, body: Vec::new() };
    let length = response.header("content-length").unwrap().parse().unwrap();
    response.body.resize(length, 0);
    with_timeout(stream.read_exact(&mut response.body)).await.unwrap();
    response
}

/// A limit, because a test that waits for ever reports nothing.
async fn with_timeout<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_TIMEOUT, future).await.expect("the server is silent")
}
