//! Every request that has arrived whole is answered in time.
//!
//! The service keeps its own time and says what became of a request before this ends (see
//! `server.request_timeout`); this is for what it could not know: a database that is silent, a
//! connection that is stuck. The work is dropped then: what has not begun never will, and
//! PostgreSQL ends the statement that has. actix itself goes on for a client that is gone.

use std::future::pending;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use tokio::time::Instant;

use super::noted::Noted;
use super::server::Options;

/// No answer in time. Whether the request was done is not known, unless it only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {}; {}", humantime::format_duration(*.within), unknown(*.reads))]
pub(super) struct Late {
    within: Duration,
    reads: bool,
}

fn unknown(reads: bool) -> &'static str {
    if reads { "try again" } else { "whether it was done is not known" }
}

/// The answer to a request, which is `E` when that comes too late.
pub(super) async fn keep<E>(
    request: &HttpRequest,
    answering: impl Future<Output = HttpResponse>,
) -> HttpResponse
where
    E: ResponseError + From<Late> + 'static,
{
    tokio::select! {
        biased;
        answer = answering => answer,
        within = passed(request) => {
            let late = Late { within, reads: request.method().is_safe() };
            HttpResponse::from_error(E::from(late))
        }
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
