//! The checks of a sealed text, for the API that has them. [`super::sealed_guard`] keeps the records.

use std::time::Duration;

use actix_web::HttpRequest;
use tokio::time::{Instant, sleep_until};

use super::authenticate::{AuthRejection, rate_limit_prefix, request_auth};
use crate::domain::App;
use crate::wire::SealedFingerprint;

/// The time after which a refused text of up to [`REFUSAL_STEP`] bytes is answered. To open and read such a
/// text takes about a tenth of it.
const REFUSAL_TIME: Duration = Duration::from_millis(2);
/// A longer text is answered later, by [`REFUSAL_TIME`] for each part of this length.
const REFUSAL_STEP: usize = 64 * 1024;

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

/// Waits until a refused text of `len` bytes, which arrived at `arrived_at`, may be answered.
///
/// The time to read a text depends on its content: JSON ends where it has an error. So an attacker could
/// learn by the time of the answer how far a text that it put together is JSON. The end of this wait depends
/// on the length alone, which the attacker knows.
pub(crate) async fn wait_to_refuse(arrived_at: Instant, len: usize) {
    let steps = u32::try_from(len / REFUSAL_STEP + 1).unwrap_or(u32::MAX);
    sleep_until(arrived_at + REFUSAL_TIME.saturating_mul(steps)).await;
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// The time from the arrival of a text to its refusal, if it was read in `reading`.
    async fn refused_after(len: usize, reading: Duration) -> Duration {
        let arrived_at = Instant::now();
        advance(reading).await;
        wait_to_refuse(arrived_at, len).await;
        arrived_at.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn refusal_comes_at_a_time_that_depends_on_the_length_alone() {
        for (len, time) in [(0, 2), (REFUSAL_STEP - 1, 2), (REFUSAL_STEP, 4), (1 << 20, 34)] {
            let time = Duration::from_millis(time);
            for reading in [Duration::ZERO, Duration::from_millis(1), time / 2, time] {
                assert_eq!(refused_after(len, reading).await, time, "{len}, {reading:?}");
            }
        }
    }
}
