//! The acknowledgement rate of a receiver, which limits prefetching to what the receiver soon
//! needs.

use std::time::Duration;

use tokio::time::Instant;

/// The time of one count.
const WINDOW: Duration = Duration::from_secs(1);

/// Counts the recent acknowledgements of one app.
pub(super) struct AckRate {
    window_start: Instant,
    current: usize,
    previous: usize,
}

impl AckRate {
    pub(super) fn new(now: Instant) -> Self {
        Self { window_start: now, current: 0, previous: 0 }
    }

    pub(super) fn record_ack(&mut self, now: Instant) {
        self.rotate(now);
        self.current += 1;
    }

    /// Halves the rate: a receiver that fails is not a fast one, however quickly it answers.
    pub(super) fn record_failure(&mut self) {
        self.current /= 2;
        self.previous /= 2;
    }

    /// The approximate number of acknowledgements per second.
    pub(super) fn per_second(&mut self, now: Instant) -> usize {
        self.rotate(now);
        self.current.max(self.previous)
    }

    fn rotate(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.window_start);
        if elapsed >= WINDOW {
            self.previous = if elapsed < 2 * WINDOW { self.current } else { 0 };
            (self.window_start, self.current) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_of_the_last_second_count() {
        let started_at = Instant::now();
        let at = |ms| started_at + Duration::from_millis(ms);
        let mut rate = AckRate::new(started_at);
        assert_eq!(rate.per_second(at(0)), 0);
        for ms in 0..100 {
            rate.record_ack(at(ms));
        }
        assert_eq!(rate.per_second(at(500)), 100);
        rate.record_ack(at(1_200));
        assert_eq!(rate.per_second(at(2_100)), 100);
        assert_eq!(rate.per_second(at(2_300)), 1);
        assert_eq!(rate.per_second(at(9_000)), 0);
    }

    #[test]
    fn each_failure_halves_the_rate() {
        let now = Instant::now();
        let mut rate = AckRate::new(now);
        for _ in 0..100 {
            rate.record_ack(now);
        }
        rate.record_failure();
        assert_eq!(rate.per_second(now), 50);
        for _ in 0..6 {
            rate.record_failure();
        }
        assert_eq!(rate.per_second(now), 0);
    }
}
