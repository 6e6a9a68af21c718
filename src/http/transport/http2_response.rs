//! Sends the responses to HTTP/2 requests, as fast as their clients read them.

use std::future::poll_fn;
use std::pin::pin;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header;
use actix_web::web::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use tokio::time::{Instant, timeout};

use super::h2_body::next_chunk;
use super::read_allowance::ReadAllowance;
use super::stream_memory::StreamMemory;

/// Headers about the connection, which HTTP/2 does not allow.
const ONLY_HTTP1: [header::HeaderName; 3] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE];

/// Bytes of one response that are written before other responses have their turn, and that wait for the
/// socket.
pub(super) const MAX_CHUNK: usize = 16 * 1024;

/// The client of a response.
pub(super) struct ResponseReader<'a> {
    pub(super) allowance: ReadAllowance,
    pub(super) memory: &'a StreamMemory,
}

/// Sends a response, or as much of it as the client reads.
pub(super) async fn send_response<B: MessageBody>(
    response: HttpResponse<B>,
    is_head: bool,
    mut respond: SendResponse<Bytes>,
    client: ResponseReader<'_>,
) {
    let (head, body) = response.into_parts();
    let size = body.size();
    let ends = is_head || size.is_eof();
    // A client that is gone needs no response.
    let Ok(mut stream) = respond.send_response(response_head(&head, size), ends) else { return };
    if ends {
        return;
    }
    let mut body = pin!(body);
    while let Some(chunk) = next_chunk(body.as_mut(), &mut stream).await {
        let Ok(chunk) = chunk else {
            stream.send_reset(Reason::INTERNAL_ERROR);
            return;
        };
        if send(&mut stream, chunk, &client).await.is_none() {
            return;
        }
    }
    // A client that is gone needs no end of the body.
    let _ = stream.send_data(Bytes::new(), true);
}

fn response_head(head: &HttpResponse<()>, size: BodySize) -> http::Response<()> {
    let mut response = http::Response::new(());
    let status = http::StatusCode::from_u16(head.status().as_u16());
    *response.status_mut() = status.unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let BodySize::Sized(length) = size {
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    let date = header::Date::now().to_string();
    for (name, value) in head.headers().iter().filter(|(name, _)| !ONLY_HTTP1.contains(name)) {
        let name = http::HeaderName::from_bytes(name.as_str().as_bytes());
        let value = http::HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    if let Ok(date) = date.parse() {
        headers.entry(http::header::DATE).or_insert(date);
    }
    response
}

/// Sends a part of a response; `None` if the client does not read it in time, or is gone, or if there is
/// no memory for responses that wait.
async fn send(
    stream: &mut SendStream<Bytes>,
    mut chunk: Bytes,
    client: &ResponseReader<'_>,
) -> Option<()> {
    while !chunk.is_empty() {
        let wanted = chunk.len().min(MAX_CHUNK);
        stream.reserve_capacity(wanted);
        if stream.capacity() == 0 && !client.memory.hold_response(wanted) {
            stream.send_reset(Reason::ENHANCE_YOUR_CALM);
            return None;
        }
        let (asked_at, read_timeout) = (Instant::now(), client.allowance.left());
        let Ok(capacity) = timeout(read_timeout, poll_fn(|cx| stream.poll_capacity(cx))).await
        else {
            stream.send_reset(Reason::CANCEL);
            return None;
        };
        let capacity = capacity?.ok()?;
        let piece = chunk.split_to(capacity.min(chunk.len()));
        client.allowance.spend(asked_at.elapsed());
        client.allowance.earn(piece.len());
        if !piece.is_empty() {
            stream.send_data(piece, false).ok()?;
        }
    }
    Some(())
}
