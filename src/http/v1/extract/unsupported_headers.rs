//! Headers that an endpoint does not support. If the server ignored one, it would execute a request
//! without the condition that the caller set. Therefore such a header is refused.

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderName, IF_MATCH};

use super::part::RequestPart;
use crate::http::shared::idempotency;
use crate::http::v1::problem::{Code, ErrorCodes, Problem};

/// Refuses `If-Match`: a new session has no version.
pub(crate) struct NoIfMatch;

/// Refuses `Idempotency-Key` and `If-Match` for a batch: each item has its own fields for them.
pub(crate) struct NoRequestHeaders;

impl ErrorCodes for NoIfMatch {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidHeader]
    }
}

impl ErrorCodes for NoRequestHeaders {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidHeader]
    }
}

impl RequestPart for NoIfMatch {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        reject(request, IF_MATCH, "If-Match", "a new session has no version to match")?;
        Ok(Self)
    }
}

impl RequestPart for NoRequestHeaders {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        let key = "each item has its own key, in idempotencyKey";
        reject(request, idempotency::HEADER, idempotency::HEADER_NAME, key)?;
        reject(request, IF_MATCH, "If-Match", "each update has its own version, in version")?;
        Ok(Self)
    }
}

fn reject(
    request: &HttpRequest,
    header: HeaderName,
    name: &str,
    reason: &str,
) -> Result<(), Problem> {
    match request.headers().contains_key(header) {
        true => Err(Problem::for_field(Code::InvalidHeader, name, reason)),
        false => Ok(()),
    }
}
