//! The way to the database for what does not share statements: lists, histories, names of requests.
//!
//! The pool hands out its connections in turn, but tells nobody how many wait for one. This counts,
//! so that who would wait for too long is told at once.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::repository::PgPool;
use crate::repository::pool::Limits;
use tokio::time::Instant;

use super::Error;
use super::batching::WaitEstimator;

/// A pool, and who uses it.
pub(super) struct Pooled {
    pool: PgPool,
    pace: WaitEstimator,
    /// How many use it or wait to.
    inside: AtomicUsize,
    /// How many can use it at once.
    connections: usize,
    /// How many may wait.
    longest: usize,
}

/// Somebody who uses the pool, until this is dropped.
pub(super) struct Entered<'a> {
    pooled: &'a Pooled,
    since: Instant,
    /// How many turns there were until it was done, its own included.
    turns: u32,
}

impl Pooled {
    pub(super) fn new(pool: PgPool, limits: Limits, longest: usize) -> Self {
        let connections = usize::try_from(limits.max_connections).unwrap_or(usize::MAX).max(1);
        let pace = WaitEstimator::new(Instant::now(), limits.statement_timeout);
        Self { pool, pace, inside: AtomicUsize::new(0), connections, longest }
    }

    /// Lets somebody in whose work must begin by then.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when it would begin later by how fast things go, or too many wait;
    /// [`Error::Unavailable`] when it is too late anyway. Nothing was done.
    pub(super) fn enter(&self, by: Instant) -> Result<Entered<'_>, Error> {
        self.enter_at(by, Instant::now())
    }

    fn enter_at(&self, by: Instant, since: Instant) -> Result<Entered<'_>, Error> {
        if by <= since {
            return Err(Error::queued_too_long());
        }
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        let turns = before / self.connections;
        // Whatever is wrong below, this one leaves again.
        let turns_of_its_own = u32::try_from(turns).unwrap_or(u32::MAX).saturating_add(1);
        let entered = Entered { pooled: self, since, turns: turns_of_its_own };
        if before == 0 {
            self.pace.start(since);
        }
        // Those of the first turn wait for nobody.
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
    /// Leaves without having done anything that says how long things take.
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

    /// Two connections, and four who may wait. Nobody connects.
    fn pooled() -> Pooled {
        let pool = PgPoolOptions::new().connect_lazy("postgres://nobody@localhost/none").unwrap();
        let second = Duration::from_secs(1);
        let limits =
            Limits { max_connections: 2, acquire_timeout: second, statement_timeout: second };
        Pooled::new(PgPool::new(pool, second), limits, 4)
    }

    #[tokio::test]
    async fn so_many_may_wait_and_no_more() {
        let pooled = pooled();
        let by = Instant::now() + Duration::from_secs(5);
        let inside: Vec<_> = (0..6).map(|_| pooled.enter(by).ok().unwrap()).collect();
        assert!(matches!(pooled.enter(by), Err(Error::Overloaded { .. })));
        drop(inside);
        assert!(pooled.enter(by).is_ok());
    }

    #[tokio::test]
    async fn who_would_wait_too_long_is_told_at_once() {
        let pooled = pooled();
        let start = Instant::now();
        let enter = |after: u64| {
            let now = start + Duration::from_secs(after);
            pooled.enter_at(now + Duration::from_secs(5), now)
        };
        let first = [enter(0), enter(0)];
        // What does not end is as slow as it has been until now.
        let waits = enter(4);
        assert!(waits.is_ok());
        let Err(Error::Overloaded { wait }) = enter(6) else { panic!("it would wait") };
        assert!(wait > Duration::from_secs(5), "{wait:?}");
        drop((first, waits));
        assert!(enter(6).is_ok());
        assert!(matches!(pooled.enter(Instant::now()), Err(Error::Unavailable(_))));
    }
}
