//! Ends the wait for a response that takes too long, or whose client is gone.
//!
//! The service enforces `server.request_timeout` itself, and reports the outcome. This module
//! covers the cases that the service cannot see: a silent database, a stuck connection, a client
//! that is gone. The work is dropped then. Work that has not started never starts. Work that has
//! started is finished by the task that runs it, or rolled back by PostgreSQL.

use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, ResponseError, web};
use tokio::time::Instant;

use super::request_context::RequestContext;
use crate::http::options::Options;
use crate::http::transport::{ConnectionState, DisconnectSignal};

/// The status of a request whose client closed the connection. No standard defines one; nginx uses
/// this.
pub(crate) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Why a request has no response. The outcome is unknown, unless the request only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoResponse {
    /// The request took too long.
    #[error("no response within {}; {}", humantime::format_duration(*.timeout), retry_advice(*.reads))]
    TimedOut { timeout: Duration, reads: bool },
    /// The client closed the connection. The text is for the log; the client hardly reads it.
    #[error("the client closed the connection before the response; {}", retry_advice(*.reads))]
    ClientClosed { reads: bool },
}

fn retry_advice(reads: bool) -> &'static str {
    if reads { "try again" } else { "the outcome is unknown" }
}

/// The response to a request, or an error `E` if the response is late or the client is gone.
pub(crate) async fn with_deadline<E>(
    request: &HttpRequest,
    pending_response: impl Future<Output = HttpResponse>,
) -> HttpResponse
where
    E: ResponseError + From<NoResponse> + 'static,
{
    let reads = request.method().is_safe();
    let no_response = tokio::select! {
        biased;
        response = pending_response => return response,
        () = client_disconnected(request) => NoResponse::ClientClosed { reads },
        timeout = deadline_elapsed(request) => NoResponse::TimedOut { timeout, reads },
    };
    HttpResponse::from_error(E::from(no_response))
}

/// Waits until the client of a request is gone.
async fn client_disconnected(request: &HttpRequest) {
    // Over HTTP/2, each request has its own signal.
    let stream_signal = request.extensions().get::<Rc<DisconnectSignal>>().cloned();
    let connection_signal =
        || Some(request.conn_data::<Rc<ConnectionState>>()?.disconnect_signal().clone());
    match stream_signal.or_else(connection_signal) {
        Some(signal) => signal.disconnected().await,
        None => pending().await,
    }
}

/// Waits for the request timeout, which starts when the request has been read. Returns the timeout.
async fn deadline_elapsed(request: &HttpRequest) -> Duration {
    let Some(options) = request.app_data::<web::Data<Options>>() else { return pending().await };
    let timeout = options.request_timeout;
    let mut wake = Instant::now() + timeout;
    loop {
        tokio::time::sleep_until(wake).await;
        let now = Instant::now();
        let read_at = RequestContext::from_request(request).and_then(|context| context.read_at());
        // A request that is still being read has at least the whole timeout left.
        let deadline = read_at.map_or(now + timeout, |read_at| read_at + timeout);
        if deadline <= now {
            return timeout;
        }
        wake = deadline;
    }
}
