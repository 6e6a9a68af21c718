//! Sends less to an app whose receiver keeps failing: a few attempts at a time, with growing waits.
//! One success closes the circuit and removes its state. A pure state machine.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::SessionId;

/// The circuit opens after this many sessions failed with no success in between. One session that
/// always fails has its own retry schedule, and must not slow down the others.
const FAILURE_THRESHOLD: usize = 5;
/// The first wait; each further failure doubles it.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// The longest wait.
const MAX_BACKOFF: Duration = Duration::from_secs(20);
/// The number of attempts after a wait: one delivery that has waited long, and one that was never
/// tried. If only some sessions fail, the second attempt finds that out.
const HALF_OPEN_PROBES: usize = 2;

/// The state of one app's receiver. An acknowledgement removes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CircuitBreaker {
    failed_sessions: Vec<SessionId>,
    open: Option<OpenState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OpenState {
    half_open_at: DateTime<Utc>,
    backoff: Duration,
}

impl CircuitBreaker {
    /// The number of attempts that may run, if `max` may run to a healthy receiver.
    pub(super) fn permits(&self, max: usize, now: DateTime<Utc>) -> usize {
        match self.open {
            None => max,
            Some(OpenState { half_open_at, .. }) if now >= half_open_at => {
                HALF_OPEN_PROBES.min(max)
            }
            Some(_) => 0,
        }
    }

    /// Whether the circuit is open.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns whether this failure opens the circuit. A failure during the wait does not count:
    /// its attempt began before the wait.
    pub(super) fn record_failure(&mut self, session: SessionId, now: DateTime<Utc>) -> bool {
        match self.open {
            Some(OpenState { half_open_at, .. }) if now < half_open_at => false,
            Some(OpenState { backoff, .. }) => {
                self.open((2 * backoff).min(MAX_BACKOFF), now);
                false
            }
            None => {
                if !self.failed_sessions.contains(&session) {
                    self.failed_sessions.push(session);
                }
                let threshold_reached = self.failed_sessions.len() >= FAILURE_THRESHOLD;
                if threshold_reached {
                    self.open(MIN_BACKOFF, now);
                }
                threshold_reached
            }
        }
    }

    fn open(&mut self, backoff: Duration, now: DateTime<Utc>) {
        self.open = Some(OpenState { half_open_at: now + backoff, backoff });
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
    fn repeated_failures_double_the_backoff() {
        let mut now = DateTime::from_timestamp(1_718_000_000, 0).unwrap();
        let mut circuit = CircuitBreaker::default();
        for number in 1..5 {
            assert!(!circuit.record_failure(session(number), now));
            assert_eq!(circuit.permits(8, now), 8);
        }
        assert!(circuit.record_failure(session(5), now), "this failure opens it");
        assert!(!circuit.record_failure(session(6), now), "its attempt began before");
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(circuit.permits(8, now), 0);
            let before = now;
            while circuit.permits(8, now) == 0 {
                now += Duration::from_secs(1);
            }
            waits.push((now - before).num_seconds());
            assert_eq!(circuit.permits(8, now), 2, "a few at a time");
            assert!(!circuit.record_failure(session(1), now));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 20, 20, 20]);
        assert!(circuit.is_open());
    }

    #[test]
    fn one_failing_session_does_not_open_the_circuit() {
        let mut now = DateTime::from_timestamp(1_718_000_000, 0).unwrap();
        let mut circuit = CircuitBreaker::default();
        for _ in 0..100 {
            assert!(!circuit.record_failure(session(1), now));
            assert_eq!(circuit.permits(8, now), 8);
            now += Duration::from_secs(60);
        }
    }
}
