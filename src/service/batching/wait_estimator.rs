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
pub(in crate::service) struct Pace {
    start: Instant,
    /// A turn that took so long was cut off, in microseconds.
    patience: u64,
    /// How long a turn takes, in microseconds: an average that forgets.
    turn: AtomicU64,
    /// When the last turn ended or the present one began, in microseconds from `start`; 0 while
    /// there is none.
    since: AtomicU64,
}

impl Pace {
    /// Of work that begins at `now`, whose turns are cut off after `patience`.
    pub(in crate::service) fn new(now: Instant, patience: Duration) -> Self {
        let patience = micros(patience);
        Self { start: now, patience, turn: AtomicU64::new(0), since: AtomicU64::new(0) }
    }

    /// Something is under way again.
    pub(in crate::service) fn begin(&self, now: Instant) {
        self.since.store(self.micros(now).max(1), Ordering::Relaxed);
    }

    /// A turn took that long. `more` says whether something is still under way.
    pub(in crate::service) fn end(&self, now: Instant, took: Duration, more: bool) {
        let took = micros(took);
        let turn = if took >= self.patience {
            took.saturating_mul(2)
        } else {
            // Two that end at once may count as one.
            average(self.turn.load(Ordering::Relaxed), took)
        };
        self.turn.store(turn, Ordering::Relaxed);
        let since = if more { self.micros(now).max(1) } else { 0 };
        self.since.store(since, Ordering::Relaxed);
    }

    /// How long the present turn has lasted.
    pub(in crate::service) fn lasted(&self, now: Instant) -> Option<Duration> {
        match self.since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(Duration::from_micros(self.micros(now).saturating_sub(since))),
        }
    }

    /// Whether the last turn was cut off: nobody knows whether the next one will end.
    pub(in crate::service) fn is_stuck(&self) -> bool {
        self.turn.load(Ordering::Relaxed) / 2 >= self.patience
    }

    /// How long to wait until the turns before are done: that under way, if there is one, and
    /// `turns` more.
    pub(in crate::service) fn wait(&self, turns: usize, now: Instant) -> Duration {
        let lasted = self.lasted(now).map(micros);
        Duration::from_micros(wait(self.turn.load(Ordering::Relaxed), lasted, turns))
    }

    fn micros(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.start))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// An average that goes up by an eighth of the difference and down by half of it: one slow turn
/// says little, and who is well again should be taken at his word.
fn average(before: u64, took: u64) -> u64 {
    match took.checked_sub(before) {
        Some(more) => before + more / 8,
        None => took + (before - took) / 2,
    }
}

fn wait(turn: u64, lasted: Option<u64>, turns: usize) -> u64 {
    let turns = u64::try_from(turns).unwrap_or(u64::MAX);
    match lasted.map(|lasted| lasted.max(turn)) {
        None => turn.saturating_mul(turns),
        Some(present) => average(turn, present).saturating_mul(turns).saturating_add(present),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    proptest! {
        #[test]
        fn an_average_lies_between(before in 0..u64::MAX / 2, took in 0..u64::MAX / 2) {
            let average = average(before, took);
            prop_assert!((before.min(took)..=before.max(took)).contains(&average));
        }

        #[test]
        fn who_is_well_again_is_believed_soon(slow in 1_000_000_u64..60_000_000) {
            let after = (0..16).fold(slow, |turn, _| average(turn, 1_000));
            prop_assert!(after < 2_000, "{after}");
        }

        #[test]
        fn who_comes_later_waits_no_shorter(
            turn in 0..10_000_000_u64,
            lasted in prop::option::of(0..10_000_000_u64),
            turns in 0..10_000_usize,
        ) {
            prop_assert!(wait(turn, lasted, turns) <= wait(turn, lasted, turns + 1));
            prop_assert!(wait(turn, None, turns) <= wait(turn, lasted, turns));
            let longer = lasted.map(|lasted| lasted + 1_000);
            prop_assert!(wait(turn, lasted, turns) <= wait(turn, longer, turns));
        }
    }

    #[test]
    fn who_finds_nobody_waits_for_nothing() {
        let now = Instant::now();
        let pace = Pace::new(now, 3_600_000 * MILLI);
        for _ in 0..9 {
            pace.begin(now);
            pace.end(now + MILLI, 3_599_999 * MILLI, false);
        }
        assert_eq!(pace.wait(0, now), Duration::ZERO);
        assert!(pace.wait(1, now) > 1_000 * MILLI);
    }

    #[test]
    fn what_does_not_end_counts_before_it_has_ended() {
        let now = Instant::now();
        let pace = Pace::new(now, 3_600_000 * MILLI);
        pace.begin(now);
        pace.end(now + MILLI, 8 * MILLI, true);
        // An eighth of what it took.
        assert_eq!(pace.wait(2, now + MILLI), 3 * MILLI);
        // That one, and two that take 1 ms and an eighth of what it takes beyond that.
        assert_eq!(pace.wait(2, now + 1_602 * MILLI), (1_601 + 2 * (1 + 200)) * MILLI);
        pace.end(now + 1_602 * MILLI, MILLI, false);
        assert_eq!(pace.wait(2, now + 9_000 * MILLI), 2 * MILLI);
    }

    #[test]
    fn one_slow_turn_says_little_of_those_after_it() {
        let now = Instant::now();
        let pace = Pace::new(now, 3_600_000 * MILLI);
        for _ in 0..99 {
            pace.end(now, 5 * MILLI, true);
        }
        let wait = pace.wait(99, now + 200 * MILLI);
        assert!(wait < 5_000 * MILLI, "{wait:?}");
    }

    #[test]
    fn what_was_cut_off_counts_until_something_ends_well() {
        let now = Instant::now();
        let pace = Pace::new(now, 100 * MILLI);
        pace.end(now, MILLI, false);
        assert!(!pace.is_stuck());
        pace.end(now, 100 * MILLI, false);
        assert!(pace.is_stuck());
        assert_eq!(pace.wait(0, now), Duration::ZERO, "somebody must try");
        pace.begin(now);
        assert_eq!(pace.wait(0, now + MILLI), 200 * MILLI);
        pace.end(now + 2 * MILLI, 2 * MILLI, false);
        assert!(!pace.is_stuck());
    }
}
