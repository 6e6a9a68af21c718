//! Headers that would mean nothing where they are sent. To ignore one would be to do without it
//! what the caller wanted to be done with it only: so they are refused.

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderName, IF_MATCH};

use super::idempotency;
use super::part::RequestPart;
use crate::http::v1::problem::{Code, ErrorCodes, Problem};

/// That no version is demanded of what is new.
pub(crate) struct NoIfMatch;

/// That nothing is said of all items of a batch that can only be said of each.
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

fn reject(request: &HttpRequest, header: HeaderName, name: &str, why: &str) -> Result<(), Problem> {
    match request.headers().contains_key(header) {
        true => Err(Problem::for_field(Code::InvalidHeader, name, why)),
        false => Ok(()),
    }
}
