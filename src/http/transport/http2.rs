//! HTTP/2: concurrent requests of one connection, through the same application.
//!
//! The framework's own HTTP/2 has no limits for streams and header lists. The limits that `h2` has
//! by itself stay: for resets, frames without content, and errors that the client provokes.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::ready;
use std::time::Duration;

use actix_http::{HttpMessage as _, Payload, Request};
use actix_service::Service;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::error::PayloadError;
use actix_web::http::{Method, Uri, Version, header};
use actix_web::web::Bytes;
use actix_web::{Error, HttpResponse};
use futures_util::stream;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};

use super::connection_state::ConnectionState;
use super::disconnect::DisconnectSignal;
use super::expect_continue;
use super::graceful_shutdown::GracefulShutdown;
use super::stream_state::StreamState;
use crate::http::options::Options;
use crate::metrics::CloseReason;

/// Concurrent requests of a connection.
const MAX_STREAMS: u32 = 128;
/// Bytes that a client may send before they are read: of one body, and of a whole connection.
const WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of one response that are written before other responses have their turn.
const MAX_CHUNK: usize = 16 * 1024;

/// Serves a connection until it ends.
///
/// # Errors
/// If the client is too slow or violates the protocol.
pub(super) async fn serve<T, S, B>(
    stream: T,
    state: &Rc<ConnectionState>,
    address: Option<SocketAddr>,
    app: &Rc<S>,
    options: Options,
    shutdown: &GracefulShutdown,
) -> Result<(), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let handshake = Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(options.max_header_bytes)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(stream);
    let timed_out = |_| {
        state.set_close_reason(CloseReason::Handshake);
        h2::Error::from(Reason::SETTINGS_TIMEOUT)
    };
    let mut connection =
        timeout_at(state.handshake_deadline(), handshake).await.map_err(timed_out)??;
    let mut streams = JoinSet::new();
    let mut draining = pin!(shutdown.wait_draining());
    // A client that has just opened the connection would lose its first request by GOAWAY.
    let (mut has_accepted, mut is_notified) = (false, false);
    let result = loop {
        let full = streams.len() >= MAX_STREAMS as usize;
        tokio::select! {
            () = &mut draining, if has_accepted && !is_notified => {
                // GOAWAY. Running requests finish, and requests on their way are accepted.
                connection.graceful_shutdown();
                is_notified = true;
            }
            Some(_) = streams.join_next() => {}
            next = accept(&mut connection, state, full) => {
                let (h2_request, respond) = match next {
                    Ok(Some(next)) => next,
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                };
                has_accepted = true;
                let (app, running) = (app.clone(), state.start_request());
                let occupant = state.occupant().clone();
                let stream = StreamState { disconnect: DisconnectSignal::default(), occupant };
                let write_timeout = options.write_timeout;
                streams.spawn_local(async move {
                    let _running = running;
                    handle_stream(&*app, h2_request, address, stream, respond, write_timeout).await;
                });
            }
        }
    };
    // Running requests finish, as on any lost connection.
    streams.detach_all();
    result
}

type H2Request = http::Request<RecvStream>;

/// Accepts the next request, unless the connection is full. A reset frees a stream for the client
/// while its request still runs here. New requests wait if too many of those run.
async fn accept<T: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<T, Bytes>,
    state: &ConnectionState,
    full: bool,
) -> Result<Option<(H2Request, SendResponse<Bytes>)>, h2::Error> {
    poll_fn(|cx| {
        let accepted = match full {
            true => connection.poll_closed(cx).map_ok(|()| None),
            false => connection.poll_accept(cx).map(Option::transpose),
        };
        // Each look writes all frames that are queued, unless the socket has no room.
        let are_written = !state.is_write_blocked() && state.requests().on_written();
        // A closing connection looks for its end once more.
        if are_written && state.is_closing() {
            cx.waker().wake_by_ref();
        }
        accepted
    })
    .await
}

/// Handles one request.
async fn handle_stream<S, B>(
    app: &S,
    h2_request: H2Request,
    address: Option<SocketAddr>,
    stream: StreamState,
    mut respond: SendResponse<Bytes>,
    write_timeout: Duration,
) where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let is_head = h2_request.method() == http::Method::HEAD;
    let Some(mut request) = request(h2_request) else {
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return;
    };
    let stream = Rc::new(stream);
    request.head_mut().peer_addr = address;
    request.extensions_mut().insert(stream.clone());
    let mut demand = match expect_continue::expects_continue(&request) {
        true => expect_continue::await_demand(&mut request),
        false => None,
    };
    let result = {
        let mut pending_response = pin!(app.call(request));
        tokio::select! {
            biased;
            result = &mut pending_response => result,
            // Polled after the application, which may just have wanted the body.
            _ = poll_fn(|cx| {
                if demand.take_if(|demand| demand.is_wanted()).is_some() {
                    ask_for_body(&mut respond);
                }
                respond.poll_reset(cx)
            }) => {
                stream.disconnect.signal();
                pending_response.await
            }
        }
    };
    match result {
        Ok(response) => {
            send_response(response.into_parts().1, is_head, respond, write_timeout).await;
        }
        Err(error) => send_response(error.error_response(), is_head, respond, write_timeout).await,
    }
}

/// Sends `100 Continue`. A client that is gone needs none.
fn ask_for_body(respond: &mut SendResponse<Bytes>) {
    let mut response = http::Response::new(());
    *response.status_mut() = http::StatusCode::CONTINUE;
    let _ = respond.send_informational(response);
}

/// Converts a request for the application; `None` if it is invalid.
fn request(h2_request: H2Request) -> Option<Request> {
    let (parts, body) = h2_request.into_parts();
    let payload = if body.is_end_stream() { Payload::None } else { payload(body) };
    let mut request = Request::with_payload(payload);
    let head = request.head_mut();
    head.version = Version::HTTP_2;
    head.method = Method::from_bytes(parts.method.as_str().as_bytes()).ok()?;
    head.uri = Uri::try_from(parts.uri.path_and_query().map_or("/", |path| path.as_str())).ok()?;
    for (name, value) in &parts.headers {
        let name = header::HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        head.headers.append(name, header::HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    if let Some(authority) = parts.uri.authority() {
        let host = header::HeaderValue::from_str(authority.as_str()).ok()?;
        head.headers.insert(header::HOST, host);
    }
    Some(request)
}

fn payload(mut body: RecvStream) -> Payload {
    let chunks = stream::poll_fn(move |cx| {
        let chunk = match ready!(body.poll_data(cx)) {
            Some(Ok(chunk)) => chunk,
            Some(Err(_)) => return Some(Err(PayloadError::Incomplete(None))).into(),
            None => return None.into(),
        };
        // The client may send as many bytes again.
        let released = body.flow_control().release_capacity(chunk.len());
        Some(released.map(|()| chunk).map_err(|_| PayloadError::Incomplete(None))).into()
    });
    Payload::Stream { payload: Box::pin(chunks) }
}

/// Sends a response, or as much of it as the client reads.
async fn send_response<B: MessageBody>(
    response: HttpResponse<B>,
    is_head: bool,
    mut respond: SendResponse<Bytes>,
    write_timeout: Duration,
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
    while let Some(chunk) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
        let Ok(chunk) = chunk else {
            stream.send_reset(Reason::INTERNAL_ERROR);
            return;
        };
        if send(&mut stream, chunk, write_timeout).await.is_none() {
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

/// Headers about the connection, which HTTP/2 does not allow.
const ONLY_HTTP1: [header::HeaderName; 3] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE];

/// Sends a part of a response; `None` if the client does not read it in time, or is gone.
async fn send(
    stream: &mut SendStream<Bytes>,
    mut chunk: Bytes,
    write_timeout: Duration,
) -> Option<()> {
    while !chunk.is_empty() {
        stream.reserve_capacity(chunk.len().min(MAX_CHUNK));
        let Ok(capacity) = timeout(write_timeout, poll_fn(|cx| stream.poll_capacity(cx))).await
        else {
            stream.send_reset(Reason::CANCEL);
            return None;
        };
        let capacity = capacity?.ok()?;
        let piece = chunk.split_to(capacity.min(chunk.len()));
        if !piece.is_empty() {
            stream.send_data(piece, false).ok()?;
        }
    }
    Some(())
}
