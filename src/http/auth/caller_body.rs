//! Reads the body of a request after its caller is known, for every API.
//!
//! The order bounds the memory for callers without a credential: their bodies are never kept.

use actix_web::{HttpRequest, dev};
use tokio::time::Instant;

use super::authenticate::rate_limit_prefix;
use crate::http::body;
use crate::http::body::budget::BodyOwner;
use crate::http::body::{Body, BodyError};
use crate::http::middleware::request_context::RequestContext;
use crate::service::Caller;

/// Reads the body of an authenticated caller. The body of a refused one is dropped. The request
/// timeout starts when the body has arrived.
///
/// # Errors
/// If the caller is refused. An error of the body comes first: a client that still sends its request
/// may never read another one.
pub(crate) async fn read<E: From<BodyError>>(
    request: &HttpRequest,
    payload: &mut dev::Payload,
    authenticated: Result<Caller, E>,
) -> Result<(Caller, Body), E> {
    let caller = match authenticated {
        Ok(caller) => caller,
        Err(refusal) => {
            body::discard(request, payload).await?;
            return Err(refusal);
        }
    };
    if !body::is_expected(payload) {
        return Ok((caller, Body::default()));
    }
    RequestContext::with(request, RequestContext::mark_reading);
    let owner = BodyOwner::Enterprise(caller.app().buin);
    let body = body::read(request, payload, owner, usize::MAX).await?;
    let now = Instant::now();
    RequestContext::with(request, |context| context.mark_read(now));
    Ok((caller.arrived_at(now), body))
}

/// Reads a body that proves who the caller is, at most `max` bytes of it. The memory is that of the
/// network of the caller.
pub(crate) async fn read_proof(
    request: &HttpRequest,
    payload: &mut dev::Payload,
    max: usize,
) -> Result<Body, BodyError> {
    body::read(request, payload, BodyOwner::Network(rate_limit_prefix(request)), max).await
}
