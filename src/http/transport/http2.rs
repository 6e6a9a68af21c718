//! HTTP/2: concurrent requests of one connection, through the same application.
//!
//! The framework's own HTTP/2 has no limits for streams and header lists. The limits that `h2` has
//! by itself stay: for resets, frames without content, and errors that the client provokes. The memory
//! for the requests of all connections is bounded too, and so is the time for which a client may let a
//! response wait.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

use actix_http::{HttpMessage as _, Payload, Request};
use actix_service::Service;
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use actix_web::error::PayloadError;
use actix_web::http::{Method, Uri, Version, header};
use actix_web::web::Bytes;
use futures_util::stream;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use super::connection_state::ConnectionState;
use super::disconnect::DisconnectSignal;
use super::expect_continue;
use super::graceful_shutdown::GracefulShutdown;
use super::http2_response::{MAX_CHUNK, ResponseReader, send_response};
use super::read_allowance::ReadAllowance;
use super::stream_memory::{ConnectionStreams, StreamBudget};
use super::stream_state::StreamState;
use crate::http::options::Options;
use crate::metrics::CloseReason;

/// Concurrent requests of a connection.
const MAX_STREAMS: u32 = 128;
/// Bytes that a client may send before they are read: of one body, and of a whole connection.
const WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Refused requests of a connection while its client reads nothing. The refusals wait in memory.
const MAX_UNREAD_REFUSALS: u32 = 16;

/// The client of a connection.
pub(super) struct Http2Client {
    address: SocketAddr,
    streams: Rc<ConnectionStreams>,
}

impl Http2Client {
    /// The client of a new connection.
    pub(super) fn new(address: SocketAddr, budget: &Arc<StreamBudget>) -> Self {
        Self { address, streams: budget.connection(address.ip()) }
    }
}

/// Serves a connection until it ends.
///
/// # Errors
/// If the client is too slow or violates the protocol.
pub(super) async fn serve<T, S, B>(
    stream: T,
    state: &Rc<ConnectionState>,
    Http2Client { address, streams: memory }: Http2Client,
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
        .max_send_buffer_size(MAX_CHUNK)
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
    let mut unread_refusals = 0;
    let result = loop {
        let full = streams.len() >= MAX_STREAMS as usize;
        tokio::select! {
            () = &mut draining, if has_accepted && !is_notified => {
                // GOAWAY. Running requests finish, and requests on their way are accepted.
                connection.graceful_shutdown();
                is_notified = true;
            }
            Some(_) = streams.join_next() => {}
            next = accept(&mut connection, state, &memory, full) => {
                let (h2_request, mut respond) = match next {
                    Ok(Some(next)) => next,
                    Ok(None) => break Ok(()),
                    Err(error) => {
                        // GOAWAY of this server, not of the client.
                        if error.is_library() {
                            state.set_close_reason(CloseReason::Protocol);
                        }
                        break Err(error);
                    }
                };
                has_accepted = true;
                let occupant = state.occupant().clone();
                let Some(memory) = memory.open(h2_request.headers(), occupant.enterprise()) else {
                    respond.send_reset(Reason::REFUSED_STREAM);
                    unread_refusals = if state.is_write_blocked() { unread_refusals + 1 } else { 0 };
                    if unread_refusals > MAX_UNREAD_REFUSALS {
                        // The client does not even read that its requests are refused.
                        state.set_close_reason(CloseReason::Memory);
                        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    }
                    continue;
                };
                let (app, running) = (app.clone(), state.start_request());
                let stream =
                    StreamState { disconnect: DisconnectSignal::default(), occupant, memory };
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
    memory: &ConnectionStreams,
    full: bool,
) -> Result<Option<(H2Request, SendResponse<Bytes>)>, h2::Error> {
    poll_fn(|cx| {
        let accepted = match full {
            true => connection.poll_closed(cx).map_ok(|()| None),
            false => connection.poll_accept(cx).map(Option::transpose),
        };
        // Each poll writes all frames that are queued, unless the socket has no room.
        let has_room = !state.is_write_blocked();
        if has_room {
            memory.on_written();
        }
        let are_written = has_room && state.requests().on_written();
        // A closing connection is polled for its end once more.
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
    address: SocketAddr,
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
    request.head_mut().peer_addr = Some(address);
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
                if demand.take_if(|demand| demand.is_requested()).is_some() {
                    ask_for_body(&mut respond);
                }
                respond.poll_reset(cx)
            }) => {
                stream.disconnect.signal();
                pending_response.await
            }
        }
    };
    let client =
        ResponseReader { allowance: ReadAllowance::new(write_timeout), memory: &stream.memory };
    match result {
        Ok(response) => send_response(response.into_parts().1, is_head, respond, client).await,
        Err(error) => send_response(error.error_response(), is_head, respond, client).await,
    }
    stream.memory.finish();
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
