//! Throttles sources of too many failed attempts: client networks that try invalid credentials, and
//! apps at a network that send sealed texts which cannot be opened.
//!
//! Guessing is throttled, not an address: a whole office can share one. A valid credential always
//! works, because the cache of valid credentials is asked before this throttle. While a network is
//! throttled, a credential that is not in that cache is not looked up in the database. So further
//! guesses cost almost nothing and learn nothing. The records are in the memory of this server
//! only, and end with it.

use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::unsync::Cache;

/// The longest wait, in seconds.
const MAX_WAIT: i64 = 300;
/// The number of sources in memory; each takes about 100 bytes.
const CAPACITY: usize = 16_384;

/// Counts the failed attempts of each source `K`.
pub(crate) struct AttemptThrottle<K> {
    /// A source must wait after this many failures; 0 disables the throttle.
    free_attempts: u32,
    /// The failures of a source are forgotten this long after its last failure or its last wait.
    reset_after: TimeDelta,
    records: Mutex<Cache<K, FailureRecord>>,
    /// Whether there are records: most servers have none, and need no lock then.
    has_records: AtomicBool,
}

/// The failures of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FailureRecord {
    failures: u32,
    /// The end of the wait, or the time of the last failure if that caused no wait.
    blocked_until: DateTime<Utc>,
}

impl<K: Clone + Eq + Hash> AttemptThrottle<K> {
    /// A source must wait after `free_attempts` failures; 0 disables the throttle.
    pub(crate) fn new(free_attempts: u32, reset_after: TimeDelta) -> Self {
        let records = Mutex::new(Cache::new(CAPACITY));
        Self { free_attempts, reset_after, records, has_records: AtomicBool::new(false) }
    }

    /// The number of failures after which a source must wait.
    pub(crate) fn free_attempts(&self) -> u32 {
        self.free_attempts
    }

    /// Whether any source may have to wait. Takes no lock.
    pub(crate) fn has_records(&self) -> bool {
        self.has_records.load(Ordering::Relaxed)
    }

    /// The time until the source may try again, if it must wait.
    pub(crate) fn retry_after(&self, source: &K, now: DateTime<Utc>) -> Option<Duration> {
        if !self.has_records() {
            return None;
        }
        self.with(|records| records.get(source)?.retry_after(self.free_attempts, now))
    }

    /// Records a failed attempt.
    ///
    /// Returns the wait, and does not count the attempt, if concurrent attempts of the source
    /// already caused a wait. So concurrent attempts learn as little as successive ones.
    pub(crate) fn record_failure(&self, source: &K, now: DateTime<Utc>) -> Option<Duration> {
        if self.free_attempts == 0 {
            return None;
        }
        self.with(|records| {
            let before = records.get(source).copied();
            let wait = before.and_then(|before| before.retry_after(self.free_attempts, now));
            if wait.is_none() {
                records.insert(source.clone(), self.after_failure(before, now));
            }
            wait
        })
    }

    /// Subtracts one failure, because an app of the source proved that it has its key. After a key
    /// rotation, every client of a network fails once with its old token and then requests a new
    /// one.
    pub(crate) fn forgive_one(&self, source: &K) {
        if !self.has_records() {
            return;
        }
        self.with(|records| {
            let Some(record) = records.get(source).copied() else { return };
            match record.failures.saturating_sub(1) {
                0 => drop(records.remove(source)),
                failures => records.insert(source.clone(), FailureRecord { failures, ..record }),
            }
        });
    }

    fn after_failure(&self, before: Option<FailureRecord>, now: DateTime<Utc>) -> FailureRecord {
        let before = before.filter(|before| now < before.blocked_until + self.reset_after);
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        let wait = failures.checked_sub(self.free_attempts).map_or(0, backoff);
        FailureRecord { failures, blocked_until: now + TimeDelta::seconds(wait) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Cache<K, FailureRecord>) -> T) -> T {
        // No code panics while it holds the lock.
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut records);
        self.has_records.store(!records.is_empty(), Ordering::Relaxed);
        result
    }
}

impl FailureRecord {
    fn retry_after(&self, allowed: u32, now: DateTime<Utc>) -> Option<Duration> {
        if self.failures < allowed {
            return None;
        }
        (self.blocked_until - now).to_std().ok().filter(|wait| !wait.is_zero())
    }
}

/// The wait in seconds: 1, 2, 4 …, at most [`MAX_WAIT`].
fn backoff(doublings: u32) -> i64 {
    1_i64
        .checked_shl(doublings)
        .filter(|_| doublings < 32)
        .map_or(MAX_WAIT, |wait| wait.min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;

    const ALLOWED: u32 = 3;
    const RESET_AFTER: TimeDelta = TimeDelta::seconds(60);

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn network(last: u8) -> IpNet {
        format!("192.0.2.{last}/32").parse().unwrap()
    }

    #[test]
    fn backoff_grows_and_resets() {
        let throttle = AttemptThrottle::new(ALLOWED, RESET_AFTER);
        let seconds = |now| throttle.retry_after(&network(1), at(now)).map(|wait| wait.as_secs());
        for now in [0, 10] {
            throttle.record_failure(&network(1), at(now));
            assert_eq!(seconds(now), None);
        }
        let mut now = 20;
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            throttle.record_failure(&network(1), at(now));
            assert_eq!(seconds(now), Some(wait), "at {now}");
            now += i64::try_from(wait).unwrap();
            assert_eq!(seconds(now), None, "at {now}");
        }
        assert_eq!(throttle.retry_after(&network(2), at(now)), None, "other networks do not wait");
        now += 60;
        for _ in 0..2 {
            throttle.record_failure(&network(1), at(now));
            assert_eq!(seconds(now), None, "the failures are forgotten");
        }
    }

    #[test]
    fn success_forgives_a_failure() {
        let throttle = AttemptThrottle::new(ALLOWED, RESET_AFTER);
        for _ in 0..4 {
            throttle.record_failure(&network(1), at(0));
        }
        assert!(
            throttle.retry_after(&network(1), at(0)).is_some(),
            "concurrent failures count once"
        );
        throttle.forgive_one(&network(1));
        assert_eq!(throttle.retry_after(&network(1), at(0)), None);
        for _ in 0..9 {
            throttle.forgive_one(&network(1));
        }
        throttle.record_failure(&network(1), at(0));
        assert_eq!(throttle.retry_after(&network(1), at(0)), None, "successes do not accumulate");
    }

    #[test]
    fn concurrent_failures_are_throttled() {
        let throttle = AttemptThrottle::new(ALLOWED, RESET_AFTER);
        let waits: Vec<_> = (0..5).map(|_| throttle.record_failure(&network(1), at(0))).collect();
        let second = Some(Duration::from_secs(1));
        assert_eq!(waits, [None, None, None, second, second]);
        assert_eq!(throttle.retry_after(&network(1), at(0)), second, "the rest does not count");
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = AttemptThrottle::new(1, RESET_AFTER);
        for number in 0..100_000_u32 {
            let address = std::net::IpAddr::from(number.to_be_bytes());
            throttle.record_failure(&IpNet::from(address), at(0));
        }
        assert!(throttle.with(|records| records.len()) <= CAPACITY);
    }

    #[test]
    fn throttling_can_be_disabled() {
        let throttle = AttemptThrottle::new(0, RESET_AFTER);
        for _ in 0..99 {
            throttle.record_failure(&network(1), at(0));
        }
        assert_eq!(throttle.retry_after(&network(1), at(0)), None);
    }

    proptest! {
        #[test]
        fn backoff_is_bounded(
            failures in prop::collection::vec(0..100_i64, 1..80),
            allowed in 1..20_u32,
        ) {
            let throttle = AttemptThrottle::new(allowed, RESET_AFTER);
            let mut now = 0;
            for (number, pause) in failures.into_iter().enumerate() {
                now += pause;
                throttle.record_failure(&network(1), at(now));
                let wait = throttle.retry_after(&network(1), at(now));
                prop_assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(300)));
                prop_assert!(number + 1 >= allowed as usize || wait.is_none());
            }
        }
    }
}
