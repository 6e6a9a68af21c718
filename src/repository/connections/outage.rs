//! Log lines about a database that cannot be reached: one when this begins, one in each interval
//! with a count, and one when it ends.
//!
//! Attempts to connect decide. A server tries again at least every few seconds, also without
//! requests, so the end is noticed soon.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::Error;
use tokio::time::Instant;

use crate::telemetry::cause_chain;

/// The interval between two lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// An attempt that was given up earlier says nothing about the database, because its caller had
/// little time.
const MIN_ATTEMPT: Duration = Duration::from_secs(1);

/// Whether the database cannot be reached.
#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<Reachability>);

#[derive(Debug, Default)]
struct Reachability {
    running: Option<RunningOutage>,
    /// The time at which the last outage began or ended. An attempt that began earlier says nothing about
    /// the time since then: attempts run beside each other, and an early one can be the last to end.
    changed_at: Option<Instant>,
}

#[derive(Debug)]
struct RunningOutage {
    began_at: Instant,
    reported_at: Instant,
    failed_attempts: u64,
}

/// The progress of an outage.
#[derive(Debug, PartialEq, Eq)]
enum OutageReport {
    Began,
    Continues { lasted: Duration, failed_attempts: u64 },
    Ended { lasted: Duration, failed_attempts: u64 },
}

impl Outage {
    /// Reports the result of an attempt to connect that began at `started_at`.
    pub(super) fn record<T>(&self, result: &Result<T, Error>, started_at: Instant) {
        let now = Instant::now();
        let is_given_up = matches!(result, Err(Error::PoolTimedOut));
        if is_given_up && now - started_at < MIN_ATTEMPT {
            return;
        }
        let report = self.next_report(result.is_ok(), started_at, now);
        let cause = result.as_ref().err().map(|error| cause_chain(error));
        match report {
            None => {}
            Some(OutageReport::Began) => tracing::error!(
                cause,
                "the database cannot be reached: requests that need it are refused until it is back"
            ),
            Some(OutageReport::Continues { lasted, failed_attempts }) => tracing::error!(
                seconds = lasted.as_secs(),
                failed_attempts,
                cause,
                "the database still cannot be reached"
            ),
            Some(OutageReport::Ended { lasted, failed_attempts }) => tracing::info!(
                seconds = lasted.as_secs(),
                failed_attempts,
                "the database can be reached again"
            ),
        }
    }

    fn next_report(
        &self,
        is_connected: bool,
        started_at: Instant,
        now: Instant,
    ) -> Option<OutageReport> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.changed_at.is_some_and(|changed_at| started_at < changed_at) {
            return None;
        }
        match (&mut state.running, is_connected) {
            (None, true) => None,
            (None, false) => {
                *state = Reachability {
                    running: Some(RunningOutage {
                        began_at: now,
                        reported_at: now,
                        failed_attempts: 1,
                    }),
                    changed_at: Some(now),
                };
                Some(OutageReport::Began)
            }
            (Some(outage), true) => {
                let (lasted, failed_attempts) = (now - outage.began_at, outage.failed_attempts);
                *state = Reachability { running: None, changed_at: Some(now) };
                Some(OutageReport::Ended { lasted, failed_attempts })
            }
            (Some(outage), false) => {
                outage.failed_attempts += 1;
                if now - outage.reported_at < REPORT_INTERVAL {
                    return None;
                }
                outage.reported_at = now;
                let (lasted, failed_attempts) = (now - outage.began_at, outage.failed_attempts);
                Some(OutageReport::Continues { lasted, failed_attempts })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_reported_at_its_begin_in_intervals_and_at_its_end() {
        let outage = Outage::default();
        let attempt =
            |is_connected| outage.next_report(is_connected, Instant::now(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(attempt(true), None);
        assert_eq!(attempt(false), Some(OutageReport::Began));
        for _ in 0..99 {
            assert_eq!(attempt(false), None);
        }
        tokio::time::advance(10 * second).await;
        let lasted = 10 * second;
        assert_eq!(attempt(false), Some(OutageReport::Continues { lasted, failed_attempts: 101 }));
        assert_eq!(attempt(false), None);
        tokio::time::advance(second).await;
        let lasted = 11 * second;
        assert_eq!(attempt(true), Some(OutageReport::Ended { lasted, failed_attempts: 102 }));
        assert_eq!(attempt(true), None);
        assert_eq!(attempt(false), Some(OutageReport::Began));
    }

    #[tokio::test(start_paused = true)]
    async fn attempt_that_began_before_a_change_does_not_undo_it() {
        let outage = Outage::default();
        let second = Duration::from_secs(1);
        let before_outage = Instant::now();
        tokio::time::advance(second).await;
        let during_outage = Instant::now();
        assert_eq!(
            outage.next_report(false, during_outage, Instant::now()),
            Some(OutageReport::Began)
        );
        assert_eq!(outage.next_report(true, before_outage, Instant::now()), None);
        tokio::time::advance(second).await;
        let ended = Some(OutageReport::Ended { lasted: second, failed_attempts: 1 });
        assert_eq!(outage.next_report(true, Instant::now(), Instant::now()), ended);
        assert_eq!(outage.next_report(false, during_outage, Instant::now()), None);
        tokio::time::advance(second).await;
        assert_eq!(
            outage.next_report(false, Instant::now(), Instant::now()),
            Some(OutageReport::Began)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn short_attempt_reports_no_outage() {
        let outage = Outage::default();
        let given_up = || Err::<(), _>(Error::PoolTimedOut);
        outage.record(&given_up(), Instant::now());
        assert!(outage.0.lock().unwrap().running.is_none());
        let started_at = Instant::now();
        tokio::time::advance(MIN_ATTEMPT).await;
        outage.record(&given_up(), started_at);
        assert!(outage.0.lock().unwrap().running.is_some());
    }

    #[test]
    fn a_cause_appears_once() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let text = cause_chain(&Error::Io(refused));
        assert_eq!(text.matches("connection refused").count(), 1, "{text}");
    }
}
