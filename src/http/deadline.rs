//! Every request that has arrived whole is answered in time.
//!
//! The service keeps its own time and says what became of a request before this ends (see
//! `server.request_timeout`); this is for what it could not know: a database that is silent, a
//! connection that is stuck. The work is dropped then: what has not begun never will, and
//! PostgreSQL ends the statement that has. actix itself goes on for a client that is gone.

use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, ResponseError, web};
use tokio::time::Instant;

use super::request_log::Noted;
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

/// The middleware of a path: answers with `E` when it is too late.
///
/// It must stand below the routing, which wants a request that nobody else holds.
pub(super) async fn keep<E>(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error>
where
    E: ResponseError + From<Late> + 'static,
{
    let own = request.request().clone();
    let Some(options) = own.app_data::<web::Data<Options>>() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let within = options.request_timeout;
    tokio::select! {
        biased;
        answered = next.call(request) => Ok(answered?.map_into_boxed_body()),
        () = passed(&own, within) => {
            let late = Late { within, reads: own.method().is_safe() };
            Ok(ServiceResponse::from_err(E::from(late), own.clone()))
        }
    }
}

/// Waits until the time of a request is over, which begins when it has been read.
async fn passed(request: &HttpRequest, within: Duration) {
    let mut wake = Instant::now() + within;
    loop {
        tokio::time::sleep_until(wake).await;
        let now = Instant::now();
        // What is still being read has at least as long from now.
        let over = Noted::of(request).read_at.map_or(now + within, |read_at| read_at + within);
        if over <= now {
            return;
        }
        wake = over;
    }
}
