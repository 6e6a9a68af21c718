//! How fast a receiver acknowledges, so that no more is taken ahead than it soon wants.

use std::time::Duration;

use tokio::time::Instant;

/// What is counted together.
const SPAN: Duration = Duration::from_secs(1);

/// Counts what one app acknowledged lately.
pub(super) struct Pace {
    since: Instant,
    now: usize,
    before: usize,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, now: 0, before: 0 }
    }

    pub(super) fn acknowledged(&mut self, now: Instant) {
        self.turn(now);
        self.now += 1;
    }

    /// A receiver that fails is no quick one, however fast it does.
    pub(super) fn failed(&mut self) {
        self.now /= 2;
        self.before /= 2;
    }

    /// About how many it acknowledges in a second.
    pub(super) fn in_a_second(&mut self, now: Instant) -> usize {
        self.turn(now);
        self.now.max(self.before)
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.duration_since(self.since);
        if passed >= SPAN {
            self.before = if passed < 2 * SPAN { self.now } else { 0 };
            (self.since, self.now) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_within_a_second_counts() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut pace = Pace::new(began);
        assert_eq!(pace.in_a_second(at(0)), 0);
        for ms in 0..100 {
            pace.acknowledged(at(ms));
        }
        assert_eq!(pace.in_a_second(at(500)), 100);
        pace.acknowledged(at(1_200));
        assert_eq!(pace.in_a_second(at(2_100)), 100);
        assert_eq!(pace.in_a_second(at(2_300)), 1);
        assert_eq!(pace.in_a_second(at(9_000)), 0);
    }

    #[test]
    fn each_failure_halves_it() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..100 {
            pace.acknowledged(now);
        }
        pace.failed();
        assert_eq!(pace.in_a_second(now), 50);
        for _ in 0..6 {
            pace.failed();
        }
        assert_eq!(pace.in_a_second(now), 0);
    }
}
