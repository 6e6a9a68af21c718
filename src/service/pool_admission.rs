//! Admits requests that do not share statements to the pool: lists, histories, idempotency keys.
//!
//! Each enterprise has a share: its requests use at most [`share_of`] the connections at once, and
//! further ones wait in the queue of the enterprise. So an enterprise that sends many slow requests
//! delays and overloads only itself. Requests of several enterprises get connections in the order in
//! which they have left their queues. The share is smaller while other enterprises send requests, because
//! their statements compete for the processors of the database as well.
//!
//! A request that would wait past its deadline is rejected at once. The estimate counts only the
//! requests of the same enterprise.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::domain::Buin;
use crate::repository::Pool;
use crate::repository::connections::pool::PoolLimits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::Error;
use super::batching::WaitEstimator;

/// A pool that counts its users.
pub(super) struct PoolAdmission {
    pool: Pool,
    limits: PoolLimits,
    /// The maximum number of waiting requests of an enterprise.
    max_queued: usize,
    /// One permit for each connection. A request holds it until it is done, also between two
    /// statements, so the permits bound the memory of all these requests.
    permits: Arc<Semaphore>,
    shares: Mutex<EnterpriseShares>,
}

/// The shares of the enterprises, and the enterprises that have sent requests lately.
#[derive(Default)]
struct EnterpriseShares {
    /// The share of each enterprise that has sent a request. The number of enterprises is small.
    by_buin: HashMap<Buin, Arc<EnterpriseShare>>,
    /// The last request, and the last request of another enterprise.
    latest: [Option<(Buin, Instant)>; 2],
}

/// The requests of one enterprise.
struct EnterpriseShare {
    wait_estimator: WaitEstimator,
    /// The number of requests that use the pool or wait for it.
    in_use: AtomicUsize,
    /// The number of requests that can use the pool at once.
    connections: usize,
    /// The same while other enterprises send requests.
    contended_connections: usize,
    max_queued: usize,
    permits: Arc<Semaphore>,
}

/// A request that waits for the pool or uses it, until the ticket is dropped.
struct Ticket {
    share: Arc<EnterpriseShare>,
    /// The number of permits of the enterprise that the request takes.
    weight: u32,
    started_at: Instant,
    /// The number of rounds of connections until the request is done, including its own.
    rounds: u32,
}

/// Permission to use the pool, until the permit is dropped.
pub(super) struct PoolPermit<'a> {
    pool: &'a Pool,
    _permits: [OwnedSemaphorePermit; 2],
    _ticket: Ticket,
}

/// How long an enterprise counts as active after a request.
const ACTIVE_TIME: Duration = Duration::from_secs(1);

/// The number of connections that one enterprise may use at once while others are active: a quarter.
fn contended_share_of(connections: usize) -> usize {
    (connections / 4).max(1)
}

/// The number of connections that one enterprise may use at once: three quarters, but two if the pool
/// has them.
fn share_of(connections: usize) -> usize {
    (connections * 3 / 4).max(2).min(connections)
}

impl PoolAdmission {
    pub(super) fn new(pool: Pool, limits: PoolLimits, max_queued: usize) -> Self {
        let connections = connections(limits).min(Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(connections));
        Self { pool, limits, max_queued, permits, shares: Mutex::default() }
    }

    /// Waits until a request of an enterprise may use the pool. Its statement must start before
    /// `deadline`.
    ///
    /// # Errors
    /// [`Error::Overloaded`] at once if the estimated wait exceeds the deadline or too many requests
    /// of the enterprise wait; [`Error::Unavailable`] if the deadline passes. Nothing was done.
    pub(super) async fn admit(
        &self,
        buin: Buin,
        deadline: Instant,
    ) -> Result<PoolPermit<'_>, Error> {
        let now = Instant::now();
        let (share, is_contended) = self.share(buin, now);
        let ticket = share.admit(is_contended, deadline, now)?;
        let wanted = ticket.wanted_permits(&self.permits);
        let permits = match wanted.try_acquire() {
            Some(permits) => permits,
            // The waits are measured together with those in the pool itself.
            None => self.pool.wait_stats().measure(wanted.acquire(deadline)).await?,
        };
        Ok(PoolPermit { pool: &self.pool, _permits: permits, _ticket: ticket })
    }

    /// The share of an enterprise that sends a request, and whether other enterprises are active.
    fn share(&self, buin: Buin, now: Instant) -> (Arc<EnterpriseShare>, bool) {
        // No code panics while it holds the lock.
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let is_contended = shares.record(buin, now);
        let share = shares.by_buin.entry(buin).or_insert_with(|| {
            let all = connections(self.limits);
            let connections = share_of(all);
            let wait_estimator = WaitEstimator::new(Instant::now(), self.limits.statement_timeout);
            Arc::new(EnterpriseShare {
                wait_estimator,
                in_use: AtomicUsize::new(0),
                connections,
                contended_connections: contended_share_of(all),
                max_queued: self.max_queued,
                permits: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            })
        });
        (share.clone(), is_contended)
    }
}

impl EnterpriseShares {
    /// Records a request. Tells whether another enterprise has sent one within [`ACTIVE_TIME`].
    fn record(&mut self, buin: Buin, now: Instant) -> bool {
        if self.latest[0].is_some_and(|(latest, _)| latest != buin) {
            self.latest.swap(0, 1);
        }
        self.latest[0] = Some((buin, now));
        self.latest[1].is_some_and(|(_, at)| now.saturating_duration_since(at) < ACTIVE_TIME)
    }
}

fn connections(limits: PoolLimits) -> usize {
    usize::try_from(limits.max_connections).unwrap_or(usize::MAX).max(1)
}

/// The permits that a request needs: those of its enterprise, and one of all.
struct WantedPermits<'a> {
    of_enterprise: &'a Arc<Semaphore>,
    /// The number of permits of the enterprise. It is larger while other enterprises are active.
    weight: u32,
    of_all: &'a Arc<Semaphore>,
}

impl WantedPermits<'_> {
    /// The permits, if they are free now.
    fn try_acquire(&self) -> Option<[OwnedSemaphorePermit; 2]> {
        let of_enterprise = self.of_enterprise.clone().try_acquire_many_owned(self.weight).ok()?;
        Some([of_enterprise, self.of_all.clone().try_acquire_owned().ok()?])
    }

    /// Waits for the permits of the enterprise, and only then for one of all, so that the waiting requests
    /// of an enterprise take no permits.
    async fn acquire(&self, deadline: Instant) -> Result<[OwnedSemaphorePermit; 2], Error> {
        let waiting = async {
            let of_enterprise = self.of_enterprise.clone().acquire_many_owned(self.weight).await;
            let of_all = self.of_all.clone().acquire_owned().await;
            Ok([of_enterprise, of_all])
        };
        let [of_enterprise, of_all] =
            timeout_at(deadline, waiting).await.unwrap_or_else(|_| Err(Error::queue_timeout()))?;
        // The semaphores are never closed.
        let closed = |_| Error::queue_timeout();
        Ok([of_enterprise.map_err(closed)?, of_all.map_err(closed)?])
    }
}

impl EnterpriseShare {
    /// Admits a request to the queue.
    fn admit(
        self: Arc<Self>,
        is_contended: bool,
        deadline: Instant,
        now: Instant,
    ) -> Result<Ticket, Error> {
        if deadline <= now {
            return Err(Error::queue_timeout());
        }
        let ahead = self.in_use.fetch_add(1, Ordering::Relaxed);
        let connections = if is_contended { self.contended_connections } else { self.connections };
        let rounds = ahead / connections;
        // Created first, so that its drop decrements the counter on every path.
        let rounds_with_own = u32::try_from(rounds).unwrap_or(u32::MAX).saturating_add(1);
        let weight = u32::try_from(self.connections / connections).unwrap_or(1);
        let ticket = Ticket { share: self, weight, started_at: now, rounds: rounds_with_own };
        let share = &ticket.share;
        if ahead == 0 {
            share.wait_estimator.start(now);
        }
        // A request of the first round does not wait.
        if let Some(rounds_ahead) = rounds.checked_sub(1) {
            let wait = share.wait_estimator.estimate(rounds_ahead, now);
            if now + wait > deadline || ahead >= share.connections + share.max_queued {
                ticket.cancel();
                return Err(Error::Overloaded { wait });
            }
        }
        Ok(ticket)
    }
}

impl Ticket {
    fn wanted_permits<'a>(&'a self, of_all: &'a Arc<Semaphore>) -> WantedPermits<'a> {
        WantedPermits { of_enterprise: &self.share.permits, weight: self.weight, of_all }
    }

    /// Returns the ticket without a sample for the estimates.
    fn cancel(mut self) {
        self.rounds = 0;
    }
}

impl Deref for PoolPermit<'_> {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        self.pool
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let still_in_use = self.share.in_use.fetch_sub(1, Ordering::Relaxed) > 1;
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.started_at);
        if let Some(elapsed) = elapsed.checked_div(self.rounds) {
            self.share.wait_estimator.record(now, elapsed, still_in_use);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::connections::pool;

    /// Connections and up to four waiting requests of an enterprise. No connection is opened.
    fn admission(max_connections: u32) -> PoolAdmission {
        let second = Duration::from_secs(1);
        let limits =
            PoolLimits { max_connections, acquire_timeout: second, statement_timeout: second };
        PoolAdmission::new(pool::unused(limits), limits, 4)
    }

    fn buin(number: i64) -> Buin {
        Buin::new(number).unwrap()
    }

    #[tokio::test]
    async fn number_of_waiting_requests_is_bounded() {
        let share = admission(2).share(buin(1), Instant::now()).0;
        let (now, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(5));
        let admit = || share.clone().admit(false, deadline, now);
        let tickets: Vec<_> = (0..6).map(|_| admit().ok().unwrap()).collect();
        assert!(matches!(admit(), Err(Error::Overloaded { .. })));
        drop(tickets);
        assert!(admit().is_ok());
    }

    #[tokio::test]
    async fn request_that_would_wait_too_long_is_refused_at_once() {
        let share = admission(2).share(buin(1), Instant::now()).0;
        let start = Instant::now();
        let admit = |after: u64| {
            let now = start + Duration::from_secs(after);
            share.clone().admit(false, now + Duration::from_secs(5), now)
        };
        let first = [admit(0), admit(0)];
        // A request that is still running counts with its time so far.
        let waiting = admit(4);
        assert!(waiting.is_ok());
        let Err(Error::Overloaded { wait }) = admit(6) else { panic!("the request was admitted") };
        assert!(wait > Duration::from_secs(5), "{wait:?}");
        drop((first, waiting));
        assert!(admit(6).is_ok());
        let now = Instant::now();
        assert!(matches!(share.clone().admit(false, now, now), Err(Error::Unavailable(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_enterprise_leaves_connections_to_the_others() {
        let admission = admission(10);
        let deadline = || Instant::now() + Duration::from_secs(5);
        let mut permits = Vec::new();
        for _ in 0..7 {
            permits.push(admission.admit(buin(1), deadline()).await.ok().unwrap());
        }
        // The eighth request waits until its deadline.
        let waited = admission.admit(buin(1), deadline()).await;
        assert!(matches!(waited, Err(Error::Unavailable(_))));
        for _ in 0..3 {
            permits.push(admission.admit(buin(2), deadline()).await.ok().unwrap());
        }
        // The pool is full. The next free permit is for the request that waited first.
        let one = admission.admit(buin(3), deadline());
        let two = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            permits.remove(0);
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        let (one, ()) = tokio::join!(one, two);
        assert!(one.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn share_is_a_quarter_while_another_enterprise_is_active() {
        let admission = admission(10);
        let admit = async |number| {
            let admitted = admission.admit(buin(number), Instant::now() + ACTIVE_TIME / 4).await;
            admitted.ok()
        };
        let mut permits = Vec::new();
        // One enterprise alone has three quarters.
        for _ in 0..7 {
            permits.push(admit(1).await.unwrap());
        }
        permits.clear();
        permits.push(admit(2).await.unwrap());
        for _ in 0..2 {
            permits.push(admit(1).await.unwrap());
        }
        assert!(admit(1).await.is_none());
        // The other enterprise has its share.
        permits.push(admit(2).await.unwrap());
        // The requests of the other enterprise are long ago.
        permits.clear();
        tokio::time::advance(ACTIVE_TIME).await;
        for _ in 0..7 {
            permits.push(admit(1).await.unwrap());
        }
    }

    #[test]
    fn small_pools_are_shared_by_turns() {
        let shares = [1, 2, 3, 4, 10, 100].map(share_of);
        assert_eq!(shares, [1, 2, 2, 3, 7, 75]);
        let shares = [1, 2, 3, 4, 10, 100].map(contended_share_of);
        assert_eq!(shares, [1, 1, 1, 1, 2, 25]);
    }
}
