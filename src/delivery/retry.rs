//! The decision after a failed attempt: the time of the next attempt, or the end of the delivery.
//! Pure: the time and the jitter are arguments.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// The longest wait that a receiver may request.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(4 * 60 * 60);
/// Waits are randomly up to this share longer or shorter, so that deliveries that failed together
/// are not retried together.
const JITTER: f64 = 0.2;

/// The waits after failed attempts, and the time limit of all attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySchedule {
    /// The waits after the first attempt, the second …; the last one repeats. Never empty.
    pub waits: Vec<Duration>,
    /// A delivery is given up this long after its first attempt.
    pub give_up_after: Duration,
}

/// The decision after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// The next attempt is at this time.
    RetryAt(DateTime<Utc>),
    /// The delivery is given up.
    GiveUp,
}

/// Decides after the failed attempt number `attempt` (from 1) of a round that began at
/// `first_tried_at`. `retry_after` is the wait that the receiver requested; `jitter` is a random
/// number from 0 to 1.
#[must_use]
pub fn decide(
    schedule: &RetrySchedule,
    attempt: u32,
    first_tried_at: DateTime<Utc>,
    now: DateTime<Utc>,
    retry_after: Option<Duration>,
    jitter: f64,
) -> RetryDecision {
    let elapsed = (now - first_tried_at).to_std().unwrap_or_default();
    if elapsed >= schedule.give_up_after {
        return RetryDecision::GiveUp;
    }
    let step = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let last = schedule.waits.len().saturating_sub(1);
    let wait = schedule.waits.get(step.min(last)).copied().unwrap_or(MAX_RETRY_AFTER);
    let wait = wait.mul_f64(1.0 + JITTER * (2.0 * jitter.clamp(0.0, 1.0) - 1.0));
    let requested_wait = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
    // The last attempt is at the end of the time limit, not before it.
    let wait = wait.max(requested_wait).min(schedule.give_up_after - elapsed);
    RetryDecision::RetryAt(now + wait)
}

/// The wait that a `Retry-After` header requests, in seconds or by a date. `None` for any other
/// value, and for a date in the past.
#[must_use]
pub fn parse_retry_after(retry_after: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = retry_after.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(retry_after).ok()?;
    (date.to_utc() - now).to_std().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn schedule() -> RetrySchedule {
        RetrySchedule {
            waits: vec![5 * SECOND, 30 * SECOND, 120 * SECOND],
            give_up_after: 1_000 * SECOND,
        }
    }

    /// The wait in milliseconds after an attempt `into` seconds into the round; `None` = given up.
    fn wait(attempt: u32, into: u64, retry_after: Option<u64>, jitter: f64) -> Option<i64> {
        let first = DateTime::from_timestamp(1_718_000_000, 0).unwrap();
        let now = first + Duration::from_secs(into);
        let retry_after = retry_after.map(Duration::from_secs);
        match decide(&schedule(), attempt, first, now, retry_after, jitter) {
            RetryDecision::RetryAt(at) => Some((at - now).num_milliseconds()),
            RetryDecision::GiveUp => None,
        }
    }

    #[test]
    fn decisions_follow_the_schedule() {
        for (attempt, into, retry_after, jitter, expected) in [
            // The schedule, its last wait repeated.
            (1, 0, None, 0.5, Some(5_000)),
            (2, 5, None, 0.5, Some(30_000)),
            (3, 35, None, 0.5, Some(120_000)),
            (4, 155, None, 0.5, Some(120_000)),
            (9, 700, None, 0.5, Some(120_000)),
            // Jitter, a fifth either way.
            (1, 0, None, 0.0, Some(4_000)),
            (1, 0, None, 1.0, Some(6_000)),
            // The requested wait, if it is longer, within bounds.
            (1, 0, Some(60), 0.5, Some(60_000)),
            (3, 35, Some(1), 0.5, Some(120_000)),
            (1, 0, Some(100_000), 0.5, Some(1_000_000)),
            // The last attempt is at the end; then the delivery is given up.
            (9, 990, None, 0.5, Some(10_000)),
            (9, 999, Some(60), 0.5, Some(1_000)),
            (10, 1_000, None, 0.5, None),
            (10, 5_000, None, 0.5, None),
            // A clock that went back is no reason to give up.
            (u32::MAX, 0, None, 0.5, Some(120_000)),
        ] {
            let case = format!("attempt {attempt}, {into} s, {retry_after:?}, jitter {jitter}");
            assert_eq!(wait(attempt, into, retry_after, jitter), expected, "{case}");
        }
    }

    #[test]
    fn retry_after_is_bounded() {
        let schedule = RetrySchedule { give_up_after: 1_000_000 * SECOND, ..schedule() };
        let now = DateTime::UNIX_EPOCH;
        let retry_after = Some(Duration::MAX);
        let decision = decide(&schedule, 1, now, now, retry_after, 0.5);
        assert_eq!(decision, RetryDecision::RetryAt(now + MAX_RETRY_AFTER));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::from_timestamp(1_718_000_000, 0).unwrap();
        let parsed = |value: &str| parse_retry_after(value, now).map(|parsed| parsed.as_secs());
        assert_eq!(parsed("120"), Some(120));
        assert_eq!(parsed("Mon, 10 Jun 2024 06:14:20 GMT"), Some(60));
        assert_eq!(parsed("Mon, 10 Jun 2024 06:00:00 GMT"), None, "in the past");
        assert_eq!(parsed("soon"), None);
        assert_eq!(parsed("-5"), None);
    }
}
