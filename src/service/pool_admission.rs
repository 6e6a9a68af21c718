//! Admits requests that do not share statements to the pool: lists, histories, idempotency keys.
//!
//! The pool does not report the number of requests that wait for a connection. This module counts
//! them, so that a request that would wait past its deadline is rejected at once.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::repository::Pool;
use crate::repository::pool::PoolLimits;
use tokio::time::Instant;

use super::Error;
use super::batching::WaitEstimator;

/// A pool that counts its users.
pub(super) struct PoolAdmission {
    pool: Pool,
    wait_estimator: WaitEstimator,
    /// The number of requests that use the pool or wait for it.
    in_use: AtomicUsize,
    /// The number of requests that can use the pool at once.
    connections: usize,
    /// The maximum number of waiting requests.
    max_queued: usize,
}

/// Permission to use the pool, until the permit is dropped.
pub(super) struct PoolPermit<'a> {
    admission: &'a PoolAdmission,
    started_at: Instant,
    /// The number of rounds of connections until the request is done, including its own.
    rounds: u32,
}

impl PoolAdmission {
    pub(super) fn new(pool: Pool, limits: PoolLimits, max_queued: usize) -> Self {
        let connections = usize::try_from(limits.max_connections).unwrap_or(usize::MAX).max(1);
        let wait_estimator = WaitEstimator::new(Instant::now(), limits.statement_timeout);
        Self { pool, wait_estimator, in_use: AtomicUsize::new(0), connections, max_queued }
    }

    /// Admits a request whose statement must start before `deadline`.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if the estimated wait exceeds the deadline or too many requests wait;
    /// [`Error::Unavailable`] if the deadline has passed. Nothing was done.
    pub(super) fn admit(&self, deadline: Instant) -> Result<PoolPermit<'_>, Error> {
        self.admit_at(deadline, Instant::now())
    }

    fn admit_at(&self, deadline: Instant, now: Instant) -> Result<PoolPermit<'_>, Error> {
        if deadline <= now {
            return Err(Error::queue_timeout());
        }
        let ahead = self.in_use.fetch_add(1, Ordering::Relaxed);
        let rounds = ahead / self.connections;
        // Created first, so that its drop decrements the counter on every path.
        let rounds_with_own = u32::try_from(rounds).unwrap_or(u32::MAX).saturating_add(1);
        let permit = PoolPermit { admission: self, started_at: now, rounds: rounds_with_own };
        if ahead == 0 {
            self.wait_estimator.start(now);
        }
        // A request of the first round does not wait.
        if let Some(rounds_ahead) = rounds.checked_sub(1) {
            let wait = self.wait_estimator.estimate(rounds_ahead, now);
            if now + wait > deadline || ahead >= self.connections + self.max_queued {
                permit.cancel();
                return Err(Error::Overloaded { wait });
            }
        }
        Ok(permit)
    }
}

impl PoolPermit<'_> {
    /// Releases the permit without a sample for the estimates.
    fn cancel(self) {
        self.admission.in_use.fetch_sub(1, Ordering::Relaxed);
        std::mem::forget(self);
    }
}

impl Deref for PoolPermit<'_> {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        &self.admission.pool
    }
}

impl Drop for PoolPermit<'_> {
    fn drop(&mut self) {
        let still_in_use = self.admission.in_use.fetch_sub(1, Ordering::Relaxed) > 1;
        let now = Instant::now();
        self.admission.wait_estimator.record(
            now,
            now.saturating_duration_since(self.started_at) / self.rounds,
            still_in_use,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::repository::pool;

    /// Two connections and up to four waiting requests. No connection is opened.
    fn admission() -> PoolAdmission {
        let second = Duration::from_secs(1);
        let limits =
            PoolLimits { max_connections: 2, acquire_timeout: second, statement_timeout: second };
        PoolAdmission::new(pool::unused(limits), limits, 4)
    }

    #[tokio::test]
    async fn number_of_waiting_requests_is_bounded() {
        let admission = admission();
        let deadline = Instant::now() + Duration::from_secs(5);
        let permits: Vec<_> = (0..6).map(|_| admission.admit(deadline).ok().unwrap()).collect();
        assert!(matches!(admission.admit(deadline), Err(Error::Overloaded { .. })));
        drop(permits);
        assert!(admission.admit(deadline).is_ok());
    }

    #[tokio::test]
    async fn request_that_would_wait_too_long_is_refused_at_once() {
        let admission = admission();
        let start = Instant::now();
        let admit = |after: u64| {
            let now = start + Duration::from_secs(after);
            admission.admit_at(now + Duration::from_secs(5), now)
        };
        let first = [admit(0), admit(0)];
        // A request that is still running counts with its time so far.
        let waiting = admit(4);
        assert!(waiting.is_ok());
        let Err(Error::Overloaded { wait }) = admit(6) else { panic!("the request was admitted") };
        assert!(wait > Duration::from_secs(5), "{wait:?}");
        drop((first, waiting));
        assert!(admit(6).is_ok());
        assert!(matches!(admission.admit(Instant::now()), Err(Error::Unavailable(_))));
    }
}
