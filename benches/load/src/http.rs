//! The part of HTTP/1.1 that a load generator needs: responses with a `content-length`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// A complete response at the start of a buffer.
pub struct Response {
    /// The status.
    pub status: u16,
    /// The start of the body.
    pub body: usize,
    /// The end of the response.
    pub end: usize,
}

/// Parses the response at the start of `bytes`; `None` while it is incomplete.
///
/// # Errors
/// If the bytes are not a response that this parser supports.
pub fn parse(bytes: &[u8]) -> Result<Option<Response>, String> {
    let Some(header_end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let lines = &bytes[..header_end + 2];
    if !lines.starts_with(b"HTTP/1.1 ") {
        return Err("not HTTP/1.1".to_owned());
    }
    let length = find(lines, b"content-length: ").ok_or("a response without content-length")?;
    let digits = lines[length + 16..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    let (body, end) = (header_end + 4, header_end + 4 + length);
    let status = lines[9..].iter().take_while(|byte| byte.is_ascii_digit());
    let status = status.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    Ok((bytes.len() >= end).then_some(Response { status, body, end }))
}

fn find(bytes: &[u8], name: &[u8]) -> Option<usize> {
    bytes.windows(name.len()).position(|window| window == name)
}

/// A GET, for a kept connection.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes()
}

/// A POST of JSON, for a kept connection.
pub fn post(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends one request on a new connection and returns the body of the response.
///
/// # Errors
/// If there is no response, or its status is not 200.
pub fn call(port: u16, request: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut stream = connect(port)?;
    let (status, body) = exchange(&mut stream, request)?;
    ensure!(status == 200, "status {status}: {}", String::from_utf8_lossy(&body));
    Ok(body)
}

/// A connection for [`exchange`].
///
/// # Errors
/// The error of the connect.
pub fn connect(port: u16) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

/// Sends one request on a kept connection. Returns the status and the body of the response.
///
/// # Errors
/// If there is no response.
pub fn exchange(stream: &mut TcpStream, request: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 65_536];
    loop {
        if let Some(response) = parse(&bytes).map_err(anyhow::Error::msg)? {
            return Ok((response.status, bytes[response.body..response.end].to_vec()));
        }
        let read = stream.read(&mut chunk).context("no response")?;
        ensure!(read > 0, "closed without a response");
        bytes.extend_from_slice(&chunk[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_response_is_not_parsed() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let response = parse(bytes).unwrap().unwrap();
        assert_eq!(response.status, 200);
        assert_eq!((&bytes[response.body..], response.end), (&b"ok"[..], bytes.len()));
        for cut in 0..bytes.len() {
            assert!(parse(&bytes[..cut]).unwrap().is_none(), "{cut}");
        }
    }

    #[test]
    fn error_status_is_detected() {
        let bytes = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(parse(bytes).unwrap().unwrap().status, 503);
    }
}
