//! The checks of a sealed text, for the API that has them. [`super::sealed_guard`] keeps the records.

use actix_web::HttpRequest;

use super::authenticate::{AuthRejection, rate_limit_prefix, request_auth};
use crate::domain::App;
use crate::wire::SealedFingerprint;

/// Why the sealed text of an authenticated app is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SealedFault {
    /// It is not one JSON object sealed with the app's key.
    Unopened,
    /// It was accepted before.
    Replayed,
}

/// Refuses sealed texts of the app while it is throttled at this address. The texts are not opened
/// then, so they tell nothing.
pub(crate) fn check(request: &HttpRequest, app: &App) -> Result<(), AuthRejection> {
    let guard = request_auth(request)?.sealed_guard();
    match guard.retry_after(|| rate_limit_prefix(request), app) {
        Some(wait) => Err(AuthRejection::SealedThrottled { wait, max: guard.max_failures() }),
        None => Ok(()),
    }
}

/// Records that a sealed text is refused. The caller must give one response to every fault.
///
/// # Errors
/// [`AuthRejection::SealedThrottled`] if the app is throttled already: the caller learns nothing else.
pub(crate) fn record_fault(
    request: &HttpRequest,
    app: &App,
    fault: SealedFault,
) -> Result<(), AuthRejection> {
    let guard = request_auth(request)?.sealed_guard();
    if let Some(wait) = guard.record_failure(rate_limit_prefix(request), app) {
        return Err(AuthRejection::SealedThrottled { wait, max: guard.max_failures() });
    }
    match fault {
        SealedFault::Unopened => guard.rejections().unopened.inc(),
        SealedFault::Replayed => guard.rejections().replayed.inc(),
    }
    Ok(())
}

/// The fingerprint of a sealed create or update, if the server refuses repeated ones.
pub(crate) fn write_fingerprint(
    request: &HttpRequest,
    sealed: &str,
) -> Result<Option<SealedFingerprint>, AuthRejection> {
    Ok(request_auth(request)?.sealed_guard().write_fingerprint(sealed))
}

/// Remembers a sealed create or update. Returns whether it is new.
pub(crate) fn remember_write(
    request: &HttpRequest,
    fingerprint: SealedFingerprint,
) -> Result<bool, AuthRejection> {
    Ok(request_auth(request)?.sealed_guard().remember_write(fingerprint))
}
