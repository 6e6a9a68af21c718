//! The numbers of commands in a queue, and the estimate of their wait. Both ends of the queue share
//! them, without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::turns::QueuedCounts;
use super::wait_estimator::WaitEstimator;
use crate::domain::Buin;
use crate::metrics::StatementStats;

/// The maximum number of rows in a batch. A larger command is a batch by itself. So small commands
/// do not wait for many large ones, and a statement ends long before its timeout.
pub(super) const MAX_BATCH_WEIGHT: usize = 4_096;
/// The number of enterprises that may fill their part of a queue at the same time.
pub(super) const MAX_FULL_SHARES: usize = 4;

/// The state that both ends of the queue share.
pub(super) struct QueueState {
    pub(super) estimator: WaitEstimator,
    /// The maximum number of queued commands of an enterprise.
    max_queued: usize,
    /// The maximum number of commands in a batch.
    pub(super) max_batch: usize,
    counts: QueuedCounts,
    /// The number of queued commands.
    total: AtomicUsize,
    /// The number of rows of all queued commands.
    weight: AtomicI64,
    pub(super) metrics: Arc<StatementStats>,
}

impl QueueState {
    pub(super) fn new(
        max_queued: usize,
        max_batch: usize,
        cutoff: Duration,
        metrics: Arc<StatementStats>,
    ) -> Self {
        Self {
            estimator: WaitEstimator::new(Instant::now(), cutoff),
            max_queued,
            max_batch,
            counts: QueuedCounts::new(),
            total: AtomicUsize::new(0),
            weight: AtomicI64::new(0),
            metrics,
        }
    }

    /// The maximum number of queued commands of all enterprises.
    pub(super) fn max_total(&self) -> usize {
        self.max_queued.saturating_mul(MAX_FULL_SHARES)
    }

    /// Whether the queue has no room for a command of an enterprise.
    pub(super) fn is_full(&self, buin: Buin) -> bool {
        self.counts.count_of(buin) >= self.max_queued || self.total() >= self.max_total()
    }

    /// The estimated wait of a command of an enterprise.
    pub(super) fn estimated_wait(&self, buin: Buin, now: Instant) -> Duration {
        let total = self.total();
        let ahead = || self.counts.ahead_of(buin).min(total);
        let batches = if self.estimator.is_stalled() {
            // While the database is stalled, the receiver takes commands one by one.
            ahead()
        } else if total <= self.max_batch && self.weight() <= MAX_BATCH_WEIGHT {
            // The usual case: the next batch takes all queued commands.
            total / self.max_batch
        } else {
            let ahead = ahead();
            let weight = self.weight().saturating_mul(ahead) / total.max(1);
            (ahead / self.max_batch).max(weight / MAX_BATCH_WEIGHT)
        };
        self.estimator.estimate(batches, now)
    }

    /// The number of queued commands.
    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// The number of rows of all queued commands.
    pub(super) fn weight(&self) -> usize {
        usize::try_from(self.weight.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Counts a command that is queued next.
    pub(super) fn on_enqueue(&self, buin: Buin, weight: usize) {
        self.counts.add(buin);
        self.total.fetch_add(1, Ordering::Relaxed);
        self.weight.fetch_add(signed(weight), Ordering::Relaxed);
        self.metrics.queued.add(1);
    }

    /// Counts commands of these enterprises that are in a batch now.
    pub(super) fn on_dequeue(&self, commands: impl ExactSizeIterator<Item = Buin>, weight: usize) {
        let number = commands.len();
        commands.for_each(|buin| self.counts.remove(buin));
        self.total.fetch_sub(number, Ordering::Relaxed);
        self.weight.fetch_sub(signed(weight), Ordering::Relaxed);
        self.metrics.queued.add(-signed(number));
    }
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
