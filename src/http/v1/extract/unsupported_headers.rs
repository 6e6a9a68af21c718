//! Headers that a batch does not support. If the server ignored one, it would execute a request
//! without the condition that the caller set. Therefore such a header is refused.

use actix_web::HttpRequest;

use super::conditions;
use super::part::RequestPart;
use crate::http::shared::idempotency;
use crate::http::v1::problem::{Code, ErrorCodes, Problem};

/// Refuses `Idempotency-Key` and conditions for a batch: each item has its own fields for them.
pub(crate) struct NoRequestHeaders;

impl ErrorCodes for NoRequestHeaders {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidHeader]
    }
}

impl RequestPart for NoRequestHeaders {
    const HAS_CONDITIONS: bool = true;

    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        if request.headers().contains_key(idempotency::HEADER) {
            let reason = "each item has its own key, in idempotencyKey";
            let name = idempotency::HEADER_NAME;
            return Err(Problem::for_field(Code::InvalidHeader, name, reason));
        }
        conditions::refuse(request, "each update has its own version, in version")?;
        Ok(Self)
    }
}
