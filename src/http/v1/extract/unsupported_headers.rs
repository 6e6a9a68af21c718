//! Headers that would mean nothing where they are sent. To ignore one would be to do without it
//! what the caller wanted to be done with it only: so they are refused.

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderName, IF_MATCH};

use super::idempotency;
use super::part::Part;
use crate::http::v1::problem::{Code, Fails, Problem};

/// That no version is demanded of what is new.
pub(crate) struct Unversioned;

/// That nothing is said of all items of a batch that can only be said of each.
pub(crate) struct PerItem;

impl Fails for Unversioned {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidHeader]
    }
}

impl Fails for PerItem {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidHeader]
    }
}

impl Part for Unversioned {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        without(request, IF_MATCH, "If-Match", "a new session has no version to match")?;
        Ok(Self)
    }
}

impl Part for PerItem {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        let key = "each item has its own key, in idempotencyKey";
        without(request, idempotency::HEADER, idempotency::NAME, key)?;
        without(request, IF_MATCH, "If-Match", "each update has its own version, in version")?;
        Ok(Self)
    }
}

fn without(
    request: &HttpRequest,
    header: HeaderName,
    name: &str,
    why: &str,
) -> Result<(), Problem> {
    match request.headers().contains_key(header) {
        true => Err(Problem::of(Code::InvalidHeader, name, why)),
        false => Ok(()),
    }
}
