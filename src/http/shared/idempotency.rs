//! The header `Idempotency-Key`, and the digest that tells whether two requests are the same. Each API
//! adds its own error codes.

use actix_web::http::header::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};

use super::canonical_json::canonical;

pub(crate) const HEADER_NAME: &str = "Idempotency-Key";
pub(crate) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of a response that repeats an earlier one.
pub(crate) const REPLAYED_NAME: &str = "Idempotency-Replayed";
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The key in the headers of a request, unchecked; `None` if the request has none.
///
/// # Errors
/// The mistake in the header.
pub(crate) fn find(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut keys = headers.get_all(HEADER);
    let Some(key) = keys.next() else { return Ok(None) };
    if keys.next().is_some() {
        return Err("appears more than once");
    }
    key.to_str().map(Some).map_err(|_| "only visible ASCII")
}

/// The digest of a request with a JSON `body`. Two requests are the same if `scope` and the JSON
/// value of the body are equal.
pub(crate) fn digest(scope: &[&str], body: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in scope {
        digest.update(part);
        digest.update([0]);
    }
    match canonical(body) {
        Ok(text) => digest.update(text),
        Err(_) => digest.update(body),
    }
    digest.finalize().into()
}
