//! Every request that has arrived whole is answered in time, or as soon as nobody waits any more.
//!
//! The service keeps its own time and says what became of a request before this ends (see
//! `server.request_timeout`); this is for what it could not know: a database that is silent, a
//! connection that is stuck, a client that is gone. The work is dropped then: what has not begun
//! never will, and what has is finished by whoever does it, or undone by PostgreSQL.

use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, ResponseError, web};
use tokio::time::Instant;

use super::request_context::Noted;
use crate::http::options::Options;
use crate::http::transport::{Presence, Progress};

/// The status of a request whose client closed the connection. No standard has one; nginx uses this.
pub(crate) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The reason of a missing response. The outcome is unknown, unless the request only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// The request took too long.
    #[error("no response within {}; {}", humantime::format_duration(*.within), after_all(*.reads))]
    Late { within: Duration, reads: bool },
    /// The client closed the connection. The text is for the log; the client hardly reads it.
    #[error("the client closed the connection before the response; {}", after_all(*.reads))]
    Abandoned { reads: bool },
}

fn after_all(reads: bool) -> &'static str {
    if reads { "try again" } else { "the outcome is unknown" }
}

/// The answer to a request, which is `E` when that comes too late, or for nobody.
pub(crate) async fn keep<E>(
    request: &HttpRequest,
    answering: impl Future<Output = HttpResponse>,
) -> HttpResponse
where
    E: ResponseError + From<Unanswered> + 'static,
{
    let reads = request.method().is_safe();
    let unanswered = tokio::select! {
        biased;
        answer = answering => return answer,
        () = abandoned(request) => Unanswered::Abandoned { reads },
        within = passed(request) => Unanswered::Late { within, reads },
    };
    HttpResponse::from_error(E::from(unanswered))
}

/// Waits until the client of a request is gone.
async fn abandoned(request: &HttpRequest) {
    // Over HTTP/2 each request has its own.
    let of_stream = request.extensions().get::<Rc<Presence>>().cloned();
    let of_connection = || Some(request.conn_data::<Rc<Progress>>()?.client().clone());
    match of_stream.or_else(of_connection) {
        Some(client) => client.over().await,
        None => pending().await,
    }
}

/// Waits until the time of a request is over, which begins when it has been read, and tells how long
/// it was.
async fn passed(request: &HttpRequest) -> Duration {
    let Some(options) = request.app_data::<web::Data<Options>>() else { return pending().await };
    let within = options.request_timeout;
    let mut wake = Instant::now() + within;
    loop {
        tokio::time::sleep_until(wake).await;
        let now = Instant::now();
        let read_at = Noted::of(request).and_then(|noted| noted.read_at());
        // What is still being read has at least as long from now.
        let over = read_at.map_or(now + within, |read_at| read_at + within);
        if over <= now {
            return within;
        }
        wake = over;
    }
}
