//! Estimates the wait of a new command from the duration of recent batches.
//!
//! No I/O, no clock and no lock: an estimate costs two atomic loads.
//!
//! There are two surprises. A running batch has no sample yet; if it has already taken longer than
//! the average, the time so far is the sample. A batch that a timeout cut off would have taken
//! longer, so twice its duration becomes the estimate at once. Few commands then wait behind the
//! next batch, which shows whether the database answers again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Estimates the wait in a queue that executes batches one after the other.
pub(in crate::service) struct WaitEstimator {
    origin: Instant,
    /// The duration at which a batch is cut off, in microseconds.
    cutoff: u64,
    /// The duration of a batch, in microseconds: a moving average.
    batch_time: AtomicU64,
    /// The start of the current batch, or the end of the batch before it, in microseconds from
    /// `origin`; 0 while no batch runs.
    started_at: AtomicU64,
}

impl WaitEstimator {
    /// An estimator that starts at `now`, for batches that are cut off after `cutoff`.
    pub(in crate::service) fn new(now: Instant, cutoff: Duration) -> Self {
        let cutoff = micros(cutoff);
        Self { origin: now, cutoff, batch_time: AtomicU64::new(0), started_at: AtomicU64::new(0) }
    }

    /// Records the start of a batch.
    pub(in crate::service) fn start(&self, now: Instant) {
        self.started_at.store(self.micros(now).max(1), Ordering::Relaxed);
    }

    /// Records a batch that took `elapsed`. `more`: another batch is already running.
    pub(in crate::service) fn record(&self, now: Instant, elapsed: Duration, more: bool) {
        let elapsed = micros(elapsed);
        let batch_time = if elapsed >= self.cutoff {
            elapsed.saturating_mul(2)
        } else {
            // Not atomic: if two batches end at the same time, one sample may be lost.
            average(self.batch_time.load(Ordering::Relaxed), elapsed)
        };
        self.batch_time.store(batch_time, Ordering::Relaxed);
        let started_at = if more { self.micros(now).max(1) } else { 0 };
        self.started_at.store(started_at, Ordering::Relaxed);
    }

    /// The time since the start of the current batch.
    pub(in crate::service) fn elapsed(&self, now: Instant) -> Option<Duration> {
        match self.started_at.load(Ordering::Relaxed) {
            0 => None,
            started_at => Some(Duration::from_micros(self.micros(now).saturating_sub(started_at))),
        }
    }

    /// Whether the last batch was cut off, so that the next batch may not end either.
    pub(in crate::service) fn is_stalled(&self) -> bool {
        self.batch_time.load(Ordering::Relaxed) / 2 >= self.cutoff
    }

    /// The time until the current batch, if any, and `batches` more have ended.
    pub(in crate::service) fn estimate(&self, batches: usize, now: Instant) -> Duration {
        let elapsed = self.elapsed(now).map(micros);
        Duration::from_micros(estimated_wait(
            self.batch_time.load(Ordering::Relaxed),
            elapsed,
            batches,
        ))
    }

    fn micros(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.origin))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A moving average that rises by an eighth of the difference and falls by half of it. One slow
/// batch means little, and a recovered database should be used again soon.
fn average(previous: u64, elapsed: u64) -> u64 {
    match elapsed.checked_sub(previous) {
        Some(more) => previous + more / 8,
        None => elapsed + (previous - elapsed) / 2,
    }
}

fn estimated_wait(batch_time: u64, elapsed: Option<u64>, batches: usize) -> u64 {
    let batches = u64::try_from(batches).unwrap_or(u64::MAX);
    match elapsed.map(|elapsed| elapsed.max(batch_time)) {
        None => batch_time.saturating_mul(batches),
        Some(current) => {
            average(batch_time, current).saturating_mul(batches).saturating_add(current)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    proptest! {
        #[test]
        fn average_lies_between_its_inputs(
            previous in 0..u64::MAX / 2,
            elapsed in 0..u64::MAX / 2,
        ) {
            let average = average(previous, elapsed);
            prop_assert!((previous.min(elapsed)..=previous.max(elapsed)).contains(&average));
        }

        #[test]
        fn recovery_is_noticed_soon(slow in 1_000_000_u64..60_000_000) {
            let after = (0..16).fold(slow, |batch_time, _| average(batch_time, 1_000));
            prop_assert!(after < 2_000, "{after}");
        }

        #[test]
        fn longer_queue_never_means_a_shorter_wait(
            batch_time in 0..10_000_000_u64,
            elapsed in prop::option::of(0..10_000_000_u64),
            batches in 0..10_000_usize,
        ) {
            let wait = |elapsed, batches| estimated_wait(batch_time, elapsed, batches);
            prop_assert!(wait(elapsed, batches) <= wait(elapsed, batches + 1));
            prop_assert!(wait(None, batches) <= wait(elapsed, batches));
            let longer = elapsed.map(|elapsed| elapsed + 1_000);
            prop_assert!(wait(elapsed, batches) <= wait(longer, batches));
        }
    }

    #[test]
    fn empty_queue_means_no_wait() {
        let now = Instant::now();
        let estimator = WaitEstimator::new(now, 3_600_000 * MILLI);
        for _ in 0..9 {
            estimator.start(now);
            estimator.record(now + MILLI, 3_599_999 * MILLI, false);
        }
        assert_eq!(estimator.estimate(0, now), Duration::ZERO);
        assert!(estimator.estimate(1, now) > 1_000 * MILLI);
    }

    #[test]
    fn running_batch_counts_before_it_ends() {
        let now = Instant::now();
        let estimator = WaitEstimator::new(now, 3_600_000 * MILLI);
        estimator.start(now);
        estimator.record(now + MILLI, 8 * MILLI, true);
        // The average is an eighth of 8 ms. The current batch counts as much, and two follow.
        assert_eq!(estimator.estimate(2, now + MILLI), 3 * MILLI);
        // The current batch, and two of 1 ms plus an eighth of the time by which the current batch
        // exceeds 1 ms.
        assert_eq!(estimator.estimate(2, now + 1_602 * MILLI), (1_601 + 2 * (1 + 200)) * MILLI);
        estimator.record(now + 1_602 * MILLI, MILLI, false);
        assert_eq!(estimator.estimate(2, now + 9_000 * MILLI), 2 * MILLI);
    }

    #[test]
    fn one_slow_batch_hardly_raises_the_estimate() {
        let now = Instant::now();
        let estimator = WaitEstimator::new(now, 3_600_000 * MILLI);
        for _ in 0..99 {
            estimator.record(now, 5 * MILLI, true);
        }
        let wait = estimator.estimate(99, now + 200 * MILLI);
        assert!(wait < 5_000 * MILLI, "{wait:?}");
    }

    #[test]
    fn cut_off_batch_counts_until_a_batch_succeeds() {
        let now = Instant::now();
        let estimator = WaitEstimator::new(now, 100 * MILLI);
        estimator.record(now, MILLI, false);
        assert!(!estimator.is_stalled());
        estimator.record(now, 100 * MILLI, false);
        assert!(estimator.is_stalled());
        assert_eq!(estimator.estimate(0, now), Duration::ZERO, "one command must try");
        estimator.start(now);
        assert_eq!(estimator.estimate(0, now + MILLI), 200 * MILLI);
        estimator.record(now + 2 * MILLI, 2 * MILLI, false);
        assert!(!estimator.is_stalled());
    }
}
