//! How long work takes lately, and so how long what comes now would wait.
//!
//! No I/O, no clock of its own, no lock: whoever asks pays two loads. The surprise is the age of
//! what is under way: while nothing ends, nothing is learnt, so what lasts longer than the average
//! counts as if it ended now: whole for itself, and for the turns after it by as much as one slow
//! turn says. And a turn that was cut off tells only that it would have taken longer: it counts
//! twice, at once, so that few wait behind the next one, which finds out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How fast work is done that takes turns.
pub(in crate::service) struct WaitEstimator {
    origin: Instant,
    /// A turn that took so long was cut off, in microseconds.
    cutoff: u64,
    /// How long a turn takes, in microseconds: an average that forgets.
    batch_time: AtomicU64,
    /// When the last turn ended or the present one began, in microseconds from `start`; 0 while
    /// there is none.
    started_at: AtomicU64,
}

impl WaitEstimator {
    /// Of work that begins at `now`, whose turns are cut off after `patience`.
    pub(in crate::service) fn new(now: Instant, cutoff: Duration) -> Self {
        let cutoff = micros(cutoff);
        Self { origin: now, cutoff, batch_time: AtomicU64::new(0), started_at: AtomicU64::new(0) }
    }

    /// Something is under way again.
    pub(in crate::service) fn start(&self, now: Instant) {
        self.started_at.store(self.micros(now).max(1), Ordering::Relaxed);
    }

    /// A turn took that long. `more` says whether something is still under way.
    pub(in crate::service) fn record(&self, now: Instant, elapsed: Duration, more: bool) {
        let elapsed = micros(elapsed);
        let batch_time = if elapsed >= self.cutoff {
            elapsed.saturating_mul(2)
        } else {
            // Two that end at once may count as one.
            average(self.batch_time.load(Ordering::Relaxed), elapsed)
        };
        self.batch_time.store(batch_time, Ordering::Relaxed);
        let started_at = if more { self.micros(now).max(1) } else { 0 };
        self.started_at.store(started_at, Ordering::Relaxed);
    }

    /// How long the present turn has lasted.
    pub(in crate::service) fn elapsed(&self, now: Instant) -> Option<Duration> {
        match self.started_at.load(Ordering::Relaxed) {
            0 => None,
            started_at => Some(Duration::from_micros(self.micros(now).saturating_sub(started_at))),
        }
    }

    /// Whether the last turn was cut off: nobody knows whether the next one will end.
    pub(in crate::service) fn is_stalled(&self) -> bool {
        self.batch_time.load(Ordering::Relaxed) / 2 >= self.cutoff
    }

    /// How long to wait until the turns before are done: that under way, if there is one, and
    /// `turns` more.
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

/// An average that goes up by an eighth of the difference and down by half of it: one slow turn
/// says little, and who is well again should be taken at his word.
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
        fn an_average_lies_between(previous in 0..u64::MAX / 2, elapsed in 0..u64::MAX / 2) {
            let average = average(previous, elapsed);
            prop_assert!((previous.min(elapsed)..=previous.max(elapsed)).contains(&average));
        }

        #[test]
        fn who_is_well_again_is_believed_soon(slow in 1_000_000_u64..60_000_000) {
            let after = (0..16).fold(slow, |batch_time, _| average(batch_time, 1_000));
            prop_assert!(after < 2_000, "{after}");
        }

        #[test]
        fn who_comes_later_waits_no_shorter(
            batch_time in 0..10_000_000_u64,
            elapsed in prop::option::of(0..10_000_000_u64),
            batches in 0..10_000_usize,
        ) {
            prop_assert!(estimated_wait(batch_time, elapsed, batches) <= estimated_wait(batch_time, elapsed, batches + 1));
            prop_assert!(estimated_wait(batch_time, None, batches) <= estimated_wait(batch_time, elapsed, batches));
            let longer = elapsed.map(|elapsed| elapsed + 1_000);
            prop_assert!(estimated_wait(batch_time, elapsed, batches) <= estimated_wait(batch_time, longer, batches));
        }
    }

    #[test]
    fn who_finds_nobody_waits_for_nothing() {
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
    fn what_does_not_end_counts_before_it_has_ended() {
        let now = Instant::now();
        let estimator = WaitEstimator::new(now, 3_600_000 * MILLI);
        estimator.start(now);
        estimator.record(now + MILLI, 8 * MILLI, true);
        // An eighth of what it took.
        assert_eq!(estimator.estimate(2, now + MILLI), 3 * MILLI);
        // That one, and two that take 1 ms and an eighth of what it takes beyond that.
        assert_eq!(estimator.estimate(2, now + 1_602 * MILLI), (1_601 + 2 * (1 + 200)) * MILLI);
        estimator.record(now + 1_602 * MILLI, MILLI, false);
        assert_eq!(estimator.estimate(2, now + 9_000 * MILLI), 2 * MILLI);
    }

    #[test]
    fn one_slow_turn_says_little_of_those_after_it() {
        let now = Instant::now();
        let estimator = WaitEstimator::new(now, 3_600_000 * MILLI);
        for _ in 0..99 {
            estimator.record(now, 5 * MILLI, true);
        }
        let wait = estimator.estimate(99, now + 200 * MILLI);
        assert!(wait < 5_000 * MILLI, "{wait:?}");
    }

    #[test]
    fn what_was_cut_off_counts_until_something_ends_well() {
        let now = Instant::now();
        let estimator = WaitEstimator::new(now, 100 * MILLI);
        estimator.record(now, MILLI, false);
        assert!(!estimator.is_stalled());
        estimator.record(now, 100 * MILLI, false);
        assert!(estimator.is_stalled());
        assert_eq!(estimator.estimate(0, now), Duration::ZERO, "somebody must try");
        estimator.start(now);
        assert_eq!(estimator.estimate(0, now + MILLI), 200 * MILLI);
        estimator.record(now + 2 * MILLI, 2 * MILLI, false);
        assert!(!estimator.is_stalled());
    }
}
