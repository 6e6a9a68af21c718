//! A part of a request, and several parts as one. Each file beside this one reads one part.

use actix_web::HttpRequest;
use utoipa::openapi::path::Parameter;

use crate::http::v1::problem::{Code, Fails, Problem};

/// A part of a request: its path, its query, a header, its body.
pub(crate) trait Part: Fails + Sized {
    /// Reads the part; `body` is the whole body.
    fn read(request: &HttpRequest, body: &[u8]) -> Result<Self, Problem>;

    /// What it is in the API's description, unless it is the body.
    fn parameters() -> Vec<Parameter> {
        Vec::new()
    }
}

impl Part for () {
    fn read(_: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        Ok(())
    }
}

/// Several parts are a part, read in their order.
macro_rules! parts {
    ($($part:ident)+) => {
        impl<$($part: Fails),+> Fails for ($($part,)+) {
            fn codes() -> Vec<Code> {
                [$($part::codes()),+].concat()
            }
        }

        impl<$($part: Part),+> Part for ($($part,)+) {
            fn read(request: &HttpRequest, body: &[u8]) -> Result<Self, Problem> {
                Ok(($($part::read(request, body)?,)+))
            }

            fn parameters() -> Vec<Parameter> {
                [$($part::parameters()),+].concat()
            }
        }
    };
}

parts!(A B);
parts!(A B C);
parts!(A B C D);
