//! Reads the body of a request, within the configured size, time and memory. The content is not parsed
//! here.
//!
//! A body is read only if its caller is known. Most bodies are read whole; one that is read part by part
//! is not counted, because its reader holds only a bounded part. The rest of a small body of another
//! caller is [discarded](discard), so that its connection can be used again. Each API maps a
//! [`BodyError`] to an error of its own.

pub(crate) mod budget;

use std::rc::Rc;
use std::time::Duration;

use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, dev, web};
use futures_util::StreamExt as _;

use self::budget::{BodyBudget, BodyOwner, BytesInFlight, OverBudget};
use super::options::Options;
use super::transport;
use super::transport::ConnectionState;
use crate::metrics::CloseReason;
use crate::service::WorkTurn;

/// The first bytes of UTF-8 text from some editors and libraries. They are not part of the text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes of a body that are read, and dropped, if its request was refused by its header. The
/// connection of a request with a longer body ends after the response.
const MAX_DISCARDED_BYTES: usize = 16 * 1024;

/// A whole body.
#[derive(Default)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    /// Counts the bytes as in flight; `None` for an empty body.
    pub(crate) in_flight: Option<BytesInFlight>,
    /// The turn of the work on a large body.
    pub(crate) turn: Option<WorkTurn>,
}

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// The body has more bytes than allowed.
    #[error("at most {max} bytes, got {}", .got.map_or("more".to_owned(), |got| got.to_string()))]
    TooLarge {
        /// The limit, in bytes.
        max: usize,
        /// The announced length, if there is one. A longer body is not read to its end.
        got: Option<u64>,
    },
    /// The body did not arrive in time.
    #[error("must arrive within {}", humantime::format_duration(*.timeout))]
    Timeout {
        /// The limit.
        timeout: Duration,
    },
    /// The client stopped sending, or the framing is wrong.
    #[error("incomplete, the client stopped sending or the framing is invalid")]
    Incomplete,
    /// The bodies of running requests take too much memory.
    #[error("running requests hold too many bytes of bodies, try again")]
    OverBudget,
    /// The router provides no [`Options`] or no [`BodyBudget`]: a bug in this crate.
    #[error("the router provides no options or no budget")]
    NotConfigured,
}

impl From<OverBudget> for BodyError {
    fn from(OverBudget: OverBudget) -> Self {
        Self::OverBudget
    }
}

/// Whether a request has a body that may still have to arrive.
pub(crate) fn is_expected(payload: &dev::Payload) -> bool {
    !matches!(payload, dev::Payload::None)
}

/// Reads a body of `owner` to its end, at most `max` bytes of it, and never more than the configured
/// size, and takes a turn for the work on it. A byte order mark at its beginning is skipped.
pub(crate) async fn read(
    request: &HttpRequest,
    payload: &mut dev::Payload,
    owner: BodyOwner,
    max: usize,
) -> Result<Body, BodyError> {
    let budget = request.app_data::<BodyBudget>().ok_or(BodyError::NotConfigured)?;
    let mut body = within_timeout(request, |options| {
        collect(request, payload, budget, owner, max.min(options.max_body_bytes))
    })
    .await?;
    body.turn = budget.take_turn(body.bytes.len()).await;
    if body.bytes.starts_with(BYTE_ORDER_MARK) {
        body.bytes = body.bytes.slice(BYTE_ORDER_MARK.len()..);
    }
    Ok(body)
}

/// Drops the body of a request that is refused by its header: to its end, if that is near. Nothing is
/// kept. A client that waits to be asked for the body is not asked.
///
/// # Errors
/// If the body itself must be refused.
pub(crate) async fn discard(
    request: &HttpRequest,
    payload: &mut dev::Payload,
) -> Result<(), BodyError> {
    if transport::is_body_awaited(request) {
        return Ok(());
    }
    within_timeout(request, |options| drop_chunks(request, payload, options.max_body_bytes)).await
}

/// Reads a body, or a part of a body that is read part by part, within the timeout.
///
/// # Errors
/// If the timeout passes, or `reading` fails.
pub(crate) async fn within_timeout<T, E, F>(
    request: &HttpRequest,
    reading: impl FnOnce(Options) -> F,
) -> Result<T, E>
where
    E: From<BodyError>,
    F: Future<Output = Result<T, E>>,
{
    let options = request.app_data::<web::Data<Options>>().map(|options| ***options);
    let options = options.ok_or(BodyError::NotConfigured)?;
    let timeout = options.body_timeout;
    tokio::time::timeout(timeout, reading(options))
        .await
        .map_err(|_| timed_out(request, timeout))?
}

/// Records the reason for closing: an HTTP/1 connection is closed after this error.
fn timed_out(request: &HttpRequest, timeout: Duration) -> BodyError {
    if let Some(state) = request.conn_data::<Rc<ConnectionState>>() {
        state.set_close_reason(CloseReason::Body);
    }
    BodyError::Timeout { timeout }
}

/// The length that the `Content-Length` header announces, if it is valid.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The announced length, if it is within `max`.
fn announced_len(request: &HttpRequest, max: usize) -> Result<Option<u64>, BodyError> {
    match content_length(request.headers()) {
        Some(length) if length > max as u64 => Err(BodyError::TooLarge { max, got: Some(length) }),
        announced => Ok(announced),
    }
}

async fn collect(
    request: &HttpRequest,
    payload: &mut dev::Payload,
    budget: &BodyBudget,
    owner: BodyOwner,
    max: usize,
) -> Result<Body, BodyError> {
    let announced = announced_len(request, max)?;
    // An announced body of a known caller counts from the beginning, so that it is not refused after most
    // of it came. An anonymous caller must send the bytes that it takes from others.
    let is_reserved = announced.is_some() && matches!(owner, BodyOwner::Enterprise(_));
    let mut in_flight = match announced {
        Some(length) if length > 0 && is_reserved => Some(budget.reserve(owner, length)?),
        _ => None,
    };
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| BodyError::Incomplete)?;
        if body.len() + chunk.len() > max {
            return Err(BodyError::TooLarge { max, got: None });
        }
        match &mut in_flight {
            _ if is_reserved => {}
            Some(in_flight) => in_flight.grow(chunk.len() as u64)?,
            None => in_flight = Some(budget.reserve(owner, chunk.len() as u64)?),
        }
        // Most bodies arrive in one chunk, which needs no copy.
        if body.is_empty() && announced == Some(chunk.len() as u64) {
            return Ok(Body { bytes: chunk, in_flight, turn: None });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Body { bytes: body.freeze(), in_flight, turn: None })
}

async fn drop_chunks(
    request: &HttpRequest,
    payload: &mut dev::Payload,
    max: usize,
) -> Result<(), BodyError> {
    let announced = announced_len(request, max)?;
    if announced.is_some_and(|length| length > MAX_DISCARDED_BYTES as u64) {
        return Ok(());
    }
    let mut dropped = 0;
    while let Some(chunk) = payload.next().await {
        dropped += chunk.map_err(|_| BodyError::Incomplete)?.len();
        if dropped > max {
            return Err(BodyError::TooLarge { max, got: None });
        }
        if dropped >= MAX_DISCARDED_BYTES {
            break;
        }
    }
    Ok(())
}
