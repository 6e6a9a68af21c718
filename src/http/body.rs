//! Reads the whole body of a request, within the configured size and time. The content is not
//! parsed here.
//!
//! Each API maps a [`BodyError`] to an error of its own.

use std::rc::Rc;
use std::time::Duration;

use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, dev, web};
use futures_util::StreamExt as _;

use super::options::Options;
use super::transport::ConnectionState;
use crate::metrics::CloseReason;

/// The first bytes of UTF-8 text from some editors and libraries. They are not part of the text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// The body has more bytes than allowed.
    #[error("at most {max} bytes")]
    TooLarge {
        /// The limit, in bytes.
        max: usize,
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
    /// The router provides no [`Options`]: a bug in this crate.
    #[error("the router provides no options")]
    NotConfigured,
}

/// Reads a body to its end. A byte order mark at its beginning is skipped.
pub(super) async fn read(
    request: &HttpRequest,
    payload: &mut dev::Payload,
) -> Result<Bytes, BodyError> {
    let options = request.app_data::<web::Data<Options>>().map(|options| ***options);
    let Options { max_body_bytes, body_timeout, .. } = options.ok_or(BodyError::NotConfigured)?;
    let body = tokio::time::timeout(body_timeout, collect(request, payload, max_body_bytes))
        .await
        .map_err(|_| timed_out(request, body_timeout))??;
    Ok(if body.starts_with(BYTE_ORDER_MARK) { body.slice(BYTE_ORDER_MARK.len()..) } else { body })
}

/// Records the reason for closing: an HTTP/1 connection is closed after this error.
fn timed_out(request: &HttpRequest, timeout: Duration) -> BodyError {
    if let Some(state) = request.conn_data::<Rc<ConnectionState>>() {
        state.set_close_reason(CloseReason::Body);
    }
    BodyError::Timeout { timeout }
}

/// The length that the `Content-Length` header announces, if it is valid.
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
        // Most bodies arrive in one chunk, which needs no copy.
        if body.is_empty() && content_length == Some(chunk.len() as u64) {
            return Ok(chunk);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
