//! A part of a request, and tuples of parts. The other files of this module read the single parts.

use actix_web::HttpRequest;
use actix_web::web::Bytes;
use utoipa::openapi::path::Parameter;

use crate::http::v1::problem::{Code, ErrorCodes, Problem};

/// A part of a request: its path, its query, a header, its body.
pub(crate) trait RequestPart: ErrorCodes + Sized {
    /// Whether the part reads the headers of conditions. Otherwise these are refused, except in
    /// reads: see [`conditions`](super::conditions).
    const HAS_CONDITIONS: bool = false;

    /// Reads the part; `body` is the whole body.
    fn read(request: &HttpRequest, body: &[u8]) -> Result<Self, Problem>;

    /// The same for a large body, whose turn goes on. A part that parses the body does this on a background thread.
    async fn read_large(request: &HttpRequest, body: &Bytes) -> Result<Self, Problem> {
        Self::read(request, body)
    }

    /// The parameters in the API's description; empty for the body.
    fn parameters() -> Vec<Parameter> {
        Vec::new()
    }
}

impl RequestPart for () {
    fn read(_: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        Ok(())
    }
}

/// A tuple of parts is a part. Its parts are read in their order.
macro_rules! impl_request_parts {
    ($($part:ident)+) => {
        impl<$($part: ErrorCodes),+> ErrorCodes for ($($part,)+) {
            fn codes() -> Vec<Code> {
                [$($part::codes()),+].concat()
            }
        }

        impl<$($part: RequestPart),+> RequestPart for ($($part,)+) {
            const HAS_CONDITIONS: bool = $($part::HAS_CONDITIONS)||+;

            fn read(request: &HttpRequest, body: &[u8]) -> Result<Self, Problem> {
                Ok(($($part::read(request, body)?,)+))
            }

            async fn read_large(request: &HttpRequest, body: &Bytes) -> Result<Self, Problem> {
                Ok(($($part::read_large(request, body).await?,)+))
            }

            fn parameters() -> Vec<Parameter> {
                [$($part::parameters()),+].concat()
            }
        }
    };
}

impl_request_parts!(A B);
impl_request_parts!(A B C);
impl_request_parts!(A B C D);
