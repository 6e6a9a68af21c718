//! The warnings about failed attempts, a limited number for each app. A pure state machine.
//!
//! Each attempt writes a line at the level `info`. An operator may read only warnings, and must learn
//! from them that callbacks fail. But a receiver that fails for a day must not fill the log. So an app
//! gets a warning at once, and then at most one in each interval, with the number of failures since
//! the last one. The limit also holds for a receiver that fails and recovers in turn.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::{AppId, Buin};

/// The shortest time between two warnings about one app.
const MIN_INTERVAL: Duration = Duration::from_secs(60);

/// The failures of each app.
#[derive(Default)]
pub(super) struct FailureLog {
    apps: HashMap<(Buin, AppId), AppFailures>,
}

#[derive(Default)]
struct AppFailures {
    /// Failures since the last warning.
    new: FailureCounts,
    last_error: String,
    warned_at: Option<DateTime<Utc>>,
    /// Whether no acknowledgement has followed the last warning.
    is_open: bool,
}

/// Numbers of failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FailureCounts {
    /// The attempts that failed.
    pub(super) failed: u64,
    /// Those of them that were the last for their callback.
    pub(super) given_up: u64,
}

impl FailureLog {
    /// Counts a failed attempt. `given_up` says that it was the last one for its callback.
    pub(super) fn record_failure(&mut self, app: &(Buin, AppId), error: &str, given_up: bool) {
        let failures = self.apps.entry(app.clone()).or_default();
        failures.new.failed += 1;
        failures.new.given_up += u64::from(given_up);
        error.clone_into(&mut failures.last_error);
    }

    /// Returns whether this acknowledgement is the first one since a warning.
    pub(super) fn record_ack(&mut self, app: &(Buin, AppId)) -> bool {
        self.apps.get_mut(app).is_some_and(|failures| std::mem::take(&mut failures.is_open))
    }

    /// Calls `warn` with each app that is due for a warning, with the failures since the last one,
    /// and with the last error. Forgets apps that had no failure during an interval.
    pub(super) fn take_due(
        &mut self,
        now: DateTime<Utc>,
        mut warn: impl FnMut(&(Buin, AppId), FailureCounts, &str),
    ) {
        self.apps.retain(|app, failures| {
            // A clock that was set back must not silence the warnings.
            let is_recent = |at: DateTime<Utc>| at <= now && now < at + MIN_INTERVAL;
            if failures.warned_at.is_some_and(is_recent) {
                return true;
            }
            if failures.new.failed == 0 {
                return failures.is_open;
            }
            warn(app, std::mem::take(&mut failures.new), &failures.last_error);
            (failures.warned_at, failures.is_open) = (Some(now), true);
            true
        });
    }

    /// Forgets the apps that `keep` refuses, because nothing is sent to them any more.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&(Buin, AppId)) -> bool) {
        self.apps.retain(|app, _| keep(app));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(number: i64) -> (Buin, AppId) {
        (Buin::new(number).unwrap(), "app".parse().unwrap())
    }

    fn due(log: &mut FailureLog, now: DateTime<Utc>) -> Vec<((Buin, AppId), u64, u64, String)> {
        let mut due = Vec::new();
        log.take_due(now, |app, FailureCounts { failed, given_up }, error| {
            due.push((app.clone(), failed, given_up, error.to_owned()));
        });
        due
    }

    #[test]
    fn first_failure_is_a_warning_and_then_one_in_each_minute() {
        let mut now = DateTime::from_timestamp(1_718_000_000, 0).unwrap();
        let mut log = FailureLog::default();
        log.record_failure(&app(1), "first", false);
        assert_eq!(due(&mut log, now), [(app(1), 1, 0, "first".to_owned())]);
        for number in 0..59 {
            now += Duration::from_secs(1);
            log.record_failure(&app(1), "later", number == 7);
            assert_eq!(due(&mut log, now), []);
        }
        // Another app has its own limit.
        log.record_failure(&app(2), "other", true);
        assert_eq!(due(&mut log, now), [(app(2), 1, 1, "other".to_owned())]);
        now += Duration::from_secs(1);
        assert_eq!(due(&mut log, now), [(app(1), 59, 1, "later".to_owned())]);
        assert_eq!(due(&mut log, now + MIN_INTERVAL), [], "no failure is left");
    }

    #[test]
    fn recovery_is_reported_once_and_does_not_raise_the_limit() {
        let mut now = DateTime::from_timestamp(1_718_000_000, 0).unwrap();
        let (mut log, app, mut warnings) = (FailureLog::default(), app(1), 0);
        assert!(!log.record_ack(&app));
        // The receiver fails and recovers ten times in a second, for ten minutes.
        let mut recoveries = 0;
        for _ in 0..6_000 {
            log.record_failure(&app, "no", false);
            warnings += due(&mut log, now).len();
            recoveries += usize::from(log.record_ack(&app));
            assert!(!log.record_ack(&app));
            now += Duration::from_millis(100);
        }
        assert_eq!((warnings, recoveries), (10, 10));
    }

    #[test]
    fn apps_are_forgotten_after_their_last_failure() {
        let now = DateTime::from_timestamp(1_718_000_000, 0).unwrap();
        let mut log = FailureLog::default();
        log.record_failure(&app(1), "no", false);
        log.record_failure(&app(2), "no", false);
        assert_eq!(due(&mut log, now).len(), 2);
        assert!(log.record_ack(&app(1)));
        due(&mut log, now + MIN_INTERVAL);
        assert_eq!(log.apps.len(), 1, "the recovery of the other one is not reported yet");
        log.retain(|_| false);
        assert!(log.apps.is_empty());
        // A clock that was set back.
        log.record_failure(&app(1), "no", false);
        assert_eq!(due(&mut log, now).len(), 1);
        log.record_failure(&app(1), "no", false);
        assert_eq!(due(&mut log, now - MIN_INTERVAL).len(), 1);
    }
}
