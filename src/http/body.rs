//! The body of a request, read whole: within the configured size and time, whatever it holds.
//!
//! Each API puts a [`BodyError`] into its own words.

use std::rc::Rc;
use std::time::Duration;

use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, dev, web};
use futures_util::StreamExt as _;

use super::options::Options;
use super::transport::ConnectionState;
use crate::metrics::CloseReason;

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// More bytes than allowed.
    #[error("at most {max} bytes")]
    TooLarge {
        /// The limit, in bytes.
        max: usize,
    },
    /// It did not arrive in time.
    #[error("must arrive within {}", humantime::format_duration(*.timeout))]
    Timeout {
        /// How long it may take.
        timeout: Duration,
    },
    /// Its sender stopped, or its framing is wrong.
    #[error("did not arrive whole")]
    Incomplete,
    /// The router gives no limits: a mistake in here.
    #[error("the router gives no options")]
    NotConfigured,
}

/// Reads a body to its end.
pub(super) async fn read(
    request: &HttpRequest,
    payload: &mut dev::Payload,
) -> Result<Bytes, BodyError> {
    let options = request.app_data::<web::Data<Options>>().map(|options| ***options);
    let Options { max_body_bytes, body_timeout, .. } = options.ok_or(BodyError::NotConfigured)?;
    tokio::time::timeout(body_timeout, collect(request, payload, max_body_bytes))
        .await
        .map_err(|_| timed_out(request, body_timeout))?
}

/// Over HTTP/1, the connection ends behind the refusal.
fn timed_out(request: &HttpRequest, timeout: Duration) -> BodyError {
    if let Some(state) = request.conn_data::<Rc<ConnectionState>>() {
        state.set_close_reason(CloseReason::Body);
    }
    BodyError::Timeout { timeout }
}

/// How many bytes a request says that its body has, if it says so.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn collect(
    request: &HttpRequest,
    payload: &mut dev::Payload,
    max: usize,
) -> Result<Bytes, BodyError> {
    let content_length = content_length(request.headers());
    if content_length.is_some_and(|length| length > max as u64) {
        return Err(BodyError::TooLarge { max });
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| BodyError::Incomplete)?;
        if body.len() + chunk.len() > max {
            return Err(BodyError::TooLarge { max });
        }
        // The usual body comes in one piece: it is not copied.
        if body.is_empty() && content_length == Some(chunk.len() as u64) {
            return Ok(chunk);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
