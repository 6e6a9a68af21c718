//! When to try again, and when to give up: pure decisions.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// How long to wait after each failed try, and for how long at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The wait after the first try, the second …; the last one is repeated. Never empty.
    pub waits: Vec<Duration>,
    /// How long after its first try a delivery is given up.
    pub give_up_after: Duration,
}

/// What becomes of a delivery whose try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is tried again then.
    RetryAt(DateTime<Utc>),
    /// It is given up.
    GiveUp,
}

/// A receiver may ask for a later try, but for no later one than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(4 * 60 * 60);
/// Waits are up to this share longer or shorter, so that what failed together does not come back
/// together.
const JITTER: f64 = 0.2;

/// Decides after the failed try number `tries` (from 1) of a round that began at `first_tried_at`.
/// `retry_after` is what the receiver asked for; `chance` is a random number from 0 to 1.
#[must_use]
pub fn decide(
    schedule: &Schedule,
    tries: u32,
    first_tried_at: DateTime<Utc>,
    now: DateTime<Utc>,
    retry_after: Option<Duration>,
    chance: f64,
) -> Verdict {
    let since = (now - first_tried_at).to_std().unwrap_or_default();
    if since >= schedule.give_up_after {
        return Verdict::GiveUp;
    }
    let step = usize::try_from(tries.saturating_sub(1)).unwrap_or(usize::MAX);
    let last = schedule.waits.len().saturating_sub(1);
    let wait = schedule.waits.get(step.min(last)).copied().unwrap_or(LONGEST_RETRY_AFTER);
    let wait = wait.mul_f64(1.0 + JITTER * (2.0 * chance.clamp(0.0, 1.0) - 1.0));
    let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
    // The last try is at the end of the time, not somewhere before it.
    let wait = wait.max(asked).min(schedule.give_up_after - since);
    Verdict::RetryAt(now + wait)
}

/// How long a receiver asks to be left alone: the value of `Retry-After`, seconds or a date. `None`
/// for anything else, and for a date that is over.
#[must_use]
pub fn asked_wait(retry_after: &str, now: DateTime<Utc>) -> Option<Duration> {
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

    fn schedule() -> Schedule {
        Schedule {
            waits: vec![5 * SECOND, 30 * SECOND, 120 * SECOND],
            give_up_after: 1_000 * SECOND,
        }
    }

    /// The wait in milliseconds after a try so many seconds into the round; `None` = given up.
    fn wait(tries: u32, into: u64, asked: Option<u64>, chance: f64) -> Option<i64> {
        let first = DateTime::from_timestamp(1_718_000_000, 0).unwrap();
        let now = first + Duration::from_secs(into);
        let asked = asked.map(Duration::from_secs);
        match decide(&schedule(), tries, first, now, asked, chance) {
            Verdict::RetryAt(at) => Some((at - now).num_milliseconds()),
            Verdict::GiveUp => None,
        }
    }

    #[test]
    fn the_table() {
        for (tries, into, asked, chance, expected) in [
            // The schedule, its last wait repeated.
            (1, 0, None, 0.5, Some(5_000)),
            (2, 5, None, 0.5, Some(30_000)),
            (3, 35, None, 0.5, Some(120_000)),
            (4, 155, None, 0.5, Some(120_000)),
            (9, 700, None, 0.5, Some(120_000)),
            // Jitter, a fifth either way.
            (1, 0, None, 0.0, Some(4_000)),
            (1, 0, None, 1.0, Some(6_000)),
            // What the receiver asks for, if it is later, within bounds.
            (1, 0, Some(60), 0.5, Some(60_000)),
            (3, 35, Some(1), 0.5, Some(120_000)),
            (1, 0, Some(100_000), 0.5, Some(1_000_000)),
            // The last try is at the end; after that it is given up.
            (9, 990, None, 0.5, Some(10_000)),
            (9, 999, Some(60), 0.5, Some(1_000)),
            (10, 1_000, None, 0.5, None),
            (10, 5_000, None, 0.5, None),
            // A clock that went back is no reason to give up.
            (u32::MAX, 0, None, 0.5, Some(120_000)),
        ] {
            let case = format!("try {tries} after {into} s, asked {asked:?}, chance {chance}");
            assert_eq!(wait(tries, into, asked, chance), expected, "{case}");
        }
    }

    #[test]
    fn what_a_receiver_asks_for_is_bounded() {
        let schedule = Schedule { give_up_after: 1_000_000 * SECOND, ..schedule() };
        let now = DateTime::UNIX_EPOCH;
        let asked = Some(Duration::MAX);
        let verdict = decide(&schedule, 1, now, now, asked, 0.5);
        assert_eq!(verdict, Verdict::RetryAt(now + LONGEST_RETRY_AFTER));
    }

    #[test]
    fn a_receiver_asks_for_time_in_seconds_or_by_date() {
        let now = DateTime::from_timestamp(1_718_000_000, 0).unwrap();
        let asked = |value: &str| asked_wait(value, now).map(|asked| asked.as_secs());
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked("Mon, 10 Jun 2024 06:14:20 GMT"), Some(60));
        assert_eq!(asked("Mon, 10 Jun 2024 06:00:00 GMT"), None, "in the past");
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("-5"), None);
    }
}
