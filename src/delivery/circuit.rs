//! Slows down to an app whose receiver fails steadily: instead of everything that is due, one try
//! at a time, with growing waits. One success opens the way again:
//! then the circuit is forgotten. A pure state machine.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// Failures in a row after which it is slowed down.
const STEADY: u32 = 5;
/// The first wait then; each further failure doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is known of one app's receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Circuit {
    failures: u32,
    closed_until: Option<DateTime<Utc>>,
}

impl Circuit {
    /// How many deliveries may be under way, where `most` may be to a sound receiver.
    pub(super) fn places(&self, most: usize, now: DateTime<Utc>) -> usize {
        match self.closed_until {
            None => most,
            Some(until) if now >= until => 1,
            Some(_) => 0,
        }
    }

    /// Whether it is slowed down.
    pub(super) fn is_closed(&self) -> bool {
        self.closed_until.is_some()
    }

    /// Gives whether this is the failure that slows it down. What was under way already when it
    /// was slowed down does not count again.
    pub(super) fn failed(&mut self, now: DateTime<Utc>) -> bool {
        if self.closed_until.is_some_and(|until| now < until) {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        let Some(beyond) = self.failures.checked_sub(STEADY) else { return false };
        let wait = FIRST_WAIT.saturating_mul(1 << beyond.min(16)).min(LONGEST_WAIT);
        self.closed_until = Some(now + wait);
        beyond == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_failure_slows_down_more_and_more() {
        let mut now = DateTime::from_timestamp(1_718_000_000, 0).unwrap();
        let mut circuit = Circuit::default();
        for _ in 1..STEADY {
            assert!(!circuit.failed(now));
            assert_eq!(circuit.places(8, now), 8);
        }
        assert!(circuit.failed(now), "this one slows it down");
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(circuit.places(8, now), 0);
            let before = now;
            while circuit.places(8, now) == 0 {
                now += Duration::from_secs(1);
            }
            waits.push((now - before).num_seconds());
            assert_eq!(circuit.places(8, now), 1, "one probe at a time");
            assert!(!circuit.failed(now));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(circuit.is_closed());
    }
}
