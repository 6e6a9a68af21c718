//! `/v1/consumers`: named consumers of the changes, whose positions the service keeps.

pub(in crate::http::v1) mod acknowledge;
pub(in crate::http::v1) mod fetch;
pub(in crate::http::v1) mod manage;
pub(in crate::http::v1) mod put;
pub(in crate::http::v1) mod status;

mod input;

use crate::http::v1::problem::{Code, ErrorCodes};

/// The error codes of the endpoints of a consumer, beside those of the request.
struct ConsumerErrors;

impl ErrorCodes for ConsumerErrors {
    fn codes() -> Vec<Code> {
        vec![Code::ConsumerNotFound]
    }
}

/// The same, if the position of the consumer is used.
struct PlaceErrors;

impl ErrorCodes for PlaceErrors {
    fn codes() -> Vec<Code> {
        vec![Code::ConsumerNotFound, Code::CursorExpired]
    }
}
