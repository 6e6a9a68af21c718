//! Slows down to an app whose receiver fails steadily: instead of everything that is due, a few
//! tries at a time, with growing waits. One success opens the way again: then the circuit is
//! forgotten. A pure state machine.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::SessionId;

/// So many sessions must fail, with no success in between. One that always fails is the business of
/// its own schedule: it must not slow down the others.
const STEADY: usize = 5;
/// The first wait then; each further failure doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How many are tried then: one that has waited long, and one that was never tried. Where many
/// sessions fail and others would not, the second finds that out.
const PROBES: usize = 2;

/// What is known of one app's receiver. Forgotten when something is acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Circuit {
    failed: Vec<SessionId>,
    slowed: Option<Slowed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slowed {
    until: DateTime<Utc>,
    wait: Duration,
}

impl Circuit {
    /// How many deliveries may be under way, where `most` may be to a sound receiver.
    pub(super) fn places(&self, most: usize, now: DateTime<Utc>) -> usize {
        match self.slowed {
            None => most,
            Some(Slowed { until, .. }) if now >= until => PROBES.min(most),
            Some(_) => 0,
        }
    }

    /// Whether it is slowed down.
    pub(super) fn is_slowed(&self) -> bool {
        self.slowed.is_some()
    }

    /// Gives whether this is the failure that slows it down. What was under way already when it
    /// was slowed down does not count again.
    pub(super) fn failed(&mut self, session: SessionId, now: DateTime<Utc>) -> bool {
        match self.slowed {
            Some(Slowed { until, .. }) if now < until => false,
            Some(Slowed { wait, .. }) => {
                self.slow_down((2 * wait).min(LONGEST_WAIT), now);
                false
            }
            None => {
                if !self.failed.contains(&session) {
                    self.failed.push(session);
                }
                let steady = self.failed.len() >= STEADY;
                if steady {
                    self.slow_down(FIRST_WAIT, now);
                }
                steady
            }
        }
    }

    fn slow_down(&mut self, wait: Duration, now: DateTime<Utc>) {
        self.slowed = Some(Slowed { until: now + wait, wait });
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn session(number: u128) -> SessionId {
        SessionId::new(Uuid::from_u128(number))
    }

    #[test]
    fn steady_failure_slows_down_more_and_more() {
        let mut now = DateTime::from_timestamp(1_718_000_000, 0).unwrap();
        let mut circuit = Circuit::default();
        for number in 1..5 {
            assert!(!circuit.failed(session(number), now));
            assert_eq!(circuit.places(8, now), 8);
        }
        assert!(circuit.failed(session(5), now), "this one slows it down");
        assert!(!circuit.failed(session(6), now), "it was under way");
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(circuit.places(8, now), 0);
            let before = now;
            while circuit.places(8, now) == 0 {
                now += Duration::from_secs(1);
            }
            waits.push((now - before).num_seconds());
            assert_eq!(circuit.places(8, now), 2, "few at a time");
            assert!(!circuit.failed(session(1), now));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 20, 20, 20]);
        assert!(circuit.is_slowed());
    }

    #[test]
    fn a_session_that_always_fails_slows_down_nothing_else() {
        let mut now = DateTime::from_timestamp(1_718_000_000, 0).unwrap();
        let mut circuit = Circuit::default();
        for _ in 0..100 {
            assert!(!circuit.failed(session(1), now));
            assert_eq!(circuit.places(8, now), 8);
            now += Duration::from_secs(60);
        }
    }
}
