//! Admits requests that do not share statements to the pool: lists, histories, idempotency keys.
//!
//! The pool does not say how many requests wait for a connection. This counts them, so that a
//! request that would wait past its deadline is refused at once.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::repository::PgPool;
use crate::repository::pool::Limits;
use tokio::time::Instant;

use super::Error;
use super::batching::WaitEstimator;

/// A pool that counts its users.
pub(super) struct Pooled {
    pool: PgPool,
    pace: WaitEstimator,
    /// How many requests use the pool or wait for it.
    inside: AtomicUsize,
    /// How many requests can use the pool at once.
    connections: usize,
    /// How many requests may wait.
    longest: usize,
}

/// Permission to use the pool, until this is dropped.
pub(super) struct Entered<'a> {
    pooled: &'a Pooled,
    since: Instant,
    /// How many rounds of connections passed until the request was done, including its own.
    turns: u32,
}

impl Pooled {
    pub(super) fn new(pool: PgPool, limits: Limits, longest: usize) -> Self {
        let connections = usize::try_from(limits.max_connections).unwrap_or(usize::MAX).max(1);
        let pace = WaitEstimator::new(Instant::now(), limits.statement_timeout);
        Self { pool, pace, inside: AtomicUsize::new(0), connections, longest }
    }

    /// Admits a request whose statement must start before `by`.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if the estimated wait exceeds the deadline or too many requests wait;
    /// [`Error::Unavailable`] if the deadline has passed. Nothing was done.
    pub(super) fn enter(&self, by: Instant) -> Result<Entered<'_>, Error> {
        self.enter_at(by, Instant::now())
    }

    fn enter_at(&self, by: Instant, since: Instant) -> Result<Entered<'_>, Error> {
        if by <= since {
            return Err(Error::queued_too_long());
        }
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        let turns = before / self.connections;
        // Built first, so that its drop decrements the counter on every path.
        let turns_of_its_own = u32::try_from(turns).unwrap_or(u32::MAX).saturating_add(1);
        let entered = Entered { pooled: self, since, turns: turns_of_its_own };
        if before == 0 {
            self.pace.start(since);
        }
        // A request of the first round does not wait.
        if let Some(more) = turns.checked_sub(1) {
            let wait = self.pace.estimate(more, since);
            if since + wait > by || before >= self.connections + self.longest {
                entered.refused();
                return Err(Error::Overloaded { wait });
            }
        }
        Ok(entered)
    }
}

impl Entered<'_> {
    /// Releases the permit without a sample for the estimates.
    fn refused(self) {
        self.pooled.inside.fetch_sub(1, Ordering::Relaxed);
        std::mem::forget(self);
    }
}

impl Deref for Entered<'_> {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.pooled.pool
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let more = self.pooled.inside.fetch_sub(1, Ordering::Relaxed) > 1;
        let now = Instant::now();
        self.pooled.pace.record(now, now.saturating_duration_since(self.since) / self.turns, more);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sqlx::postgres::PgPoolOptions;

    use super::*;

    /// Two connections, and four requests that may wait. No connection is opened.
    fn pooled() -> Pooled {
        let pool = PgPoolOptions::new().connect_lazy("postgres://nobody@localhost/none").unwrap();
        let second = Duration::from_secs(1);
        let limits =
            Limits { max_connections: 2, acquire_timeout: second, statement_timeout: second };
        Pooled::new(PgPool::new(pool, second), limits, 4)
    }

    #[tokio::test]
    async fn number_of_waiting_requests_is_bounded() {
        let pooled = pooled();
        let by = Instant::now() + Duration::from_secs(5);
        let inside: Vec<_> = (0..6).map(|_| pooled.enter(by).ok().unwrap()).collect();
        assert!(matches!(pooled.enter(by), Err(Error::Overloaded { .. })));
        drop(inside);
        assert!(pooled.enter(by).is_ok());
    }

    #[tokio::test]
    async fn request_that_would_wait_too_long_is_refused_at_once() {
        let pooled = pooled();
        let start = Instant::now();
        let enter = |after: u64| {
            let now = start + Duration::from_secs(after);
            pooled.enter_at(now + Duration::from_secs(5), now)
        };
        let first = [enter(0), enter(0)];
        // A request that is still running counts with its time so far.
        let waits = enter(4);
        assert!(waits.is_ok());
        let Err(Error::Overloaded { wait }) = enter(6) else { panic!("it would wait") };
        assert!(wait > Duration::from_secs(5), "{wait:?}");
        drop((first, waits));
        assert!(enter(6).is_ok());
        assert!(matches!(pooled.enter(Instant::now()), Err(Error::Unavailable(_))));
    }
}
