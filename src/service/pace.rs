//! How long work takes lately, and so how long what comes now would wait.
//!
//! No I/O, no clock of its own, no lock: whoever asks pays two loads. The surprise is the age of
//! what is under way: while nothing ends, nothing is learnt, so what already lasts longer than the
//! average counts instead of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How fast work is done that takes turns.
pub(super) struct Pace {
    start: Instant,
    /// How long a turn takes, in microseconds: an average that forgets.
    turn: AtomicU64,
    /// When the last turn ended or the present one began, in microseconds from `start`; 0 while
    /// there is none.
    since: AtomicU64,
}

impl Pace {
    /// Of work that begins at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { start: now, turn: AtomicU64::new(0), since: AtomicU64::new(0) }
    }

    /// Something is under way again.
    pub(super) fn begin(&self, now: Instant) {
        self.since.store(self.micros(now).max(1), Ordering::Relaxed);
    }

    /// A turn took that long. `more` says whether something is still under way.
    pub(super) fn end(&self, now: Instant, took: Duration, more: bool) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Two that end at once may count as one.
        let turn = average(self.turn.load(Ordering::Relaxed), took);
        self.turn.store(turn, Ordering::Relaxed);
        let since = if more { self.micros(now).max(1) } else { 0 };
        self.since.store(since, Ordering::Relaxed);
    }

    /// How long the present turn has lasted.
    pub(super) fn lasted(&self, now: Instant) -> Option<Duration> {
        match self.since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(Duration::from_micros(self.micros(now).saturating_sub(since))),
        }
    }

    /// How long to wait until the turns before are done: that under way, if there is one, and
    /// `turns` more.
    pub(super) fn wait(&self, turns: usize, now: Instant) -> Duration {
        let turn = Duration::from_micros(self.turn.load(Ordering::Relaxed));
        wait(turn, self.lasted(now), turns)
    }

    fn micros(&self, now: Instant) -> u64 {
        let micros = now.saturating_duration_since(self.start).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX)
    }
}

/// An average that goes up by an eighth of the difference and down by half of it: one slow turn
/// says little, and who is well again should be taken at his word.
fn average(before: u64, took: u64) -> u64 {
    match took.checked_sub(before) {
        Some(more) => before + more / 8,
        None => took + (before - took) / 2,
    }
}

fn wait(turn: Duration, lasted: Option<Duration>, turns: usize) -> Duration {
    let turns = u32::try_from(turns).unwrap_or(u32::MAX);
    match lasted {
        None => turn.saturating_mul(turns),
        Some(lasted) => turn.max(lasted).saturating_mul(turns.saturating_add(1)),
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
            let (turn, lasted) = (Duration::from_micros(turn), lasted.map(Duration::from_micros));
            prop_assert!(wait(turn, lasted, turns) <= wait(turn, lasted, turns + 1));
            prop_assert!(wait(turn, None, turns) <= wait(turn, lasted, turns));
            let longer = lasted.map(|lasted| lasted + MILLI);
            prop_assert!(wait(turn, lasted, turns) <= wait(turn, longer, turns));
        }
    }

    #[test]
    fn who_finds_nobody_waits_for_nothing() {
        let now = Instant::now();
        let pace = Pace::new(now);
        for _ in 0..9 {
            pace.begin(now);
            pace.end(now + MILLI, 3_600_000 * MILLI, false);
        }
        assert_eq!(pace.wait(0, now), Duration::ZERO);
        assert!(pace.wait(1, now) > 1_000 * MILLI);
    }

    #[test]
    fn what_does_not_end_counts_before_it_has_ended() {
        let now = Instant::now();
        let pace = Pace::new(now);
        pace.begin(now);
        pace.end(now + MILLI, 8 * MILLI, true);
        // An eighth of what it took.
        assert_eq!(pace.wait(2, now + MILLI), 3 * MILLI);
        assert_eq!(pace.wait(2, now + 1_001 * MILLI), 3_000 * MILLI);
        pace.end(now + 1_001 * MILLI, MILLI, false);
        assert_eq!(pace.wait(2, now + 9_000 * MILLI), 2 * MILLI);
    }
}
