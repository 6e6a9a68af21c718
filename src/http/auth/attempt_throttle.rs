//! Throttles client networks that try too many invalid credentials.
//!
//! Guessing is throttled, not an address: a whole office can share one. A valid credential always
//! works, because the cache of valid credentials is asked before this throttle. While a network is
//! throttled, a credential that is not in that cache is not looked up in the database. So further
//! guesses cost almost nothing and learn nothing. The records are in the memory of this server
//! only, and end with it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ipnet::IpNet;
use quick_cache::unsync::Cache;

/// The failures of a network are forgotten this long after its last failure or its last wait.
const RESET_AFTER: TimeDelta = TimeDelta::seconds(60);
/// The longest wait, in seconds.
const MAX_WAIT: i64 = 300;
/// The number of networks in memory; each takes about 100 bytes.
const CAPACITY: usize = 16_384;

/// Counts the failed attempts of each client network.
pub(crate) struct AttemptThrottle {
    /// A network must wait after this many failures; 0 disables the throttle.
    free_attempts: u32,
    records: Mutex<Cache<IpNet, FailureRecord>>,
}

/// The failures of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FailureRecord {
    failures: u32,
    /// The end of the wait, or the time of the last failure if that caused no wait.
    blocked_until: DateTime<Utc>,
}

impl AttemptThrottle {
    /// A network must wait after `free_attempts` failures; 0 disables the throttle.
    pub(crate) fn new(free_attempts: u32) -> Self {
        Self { free_attempts, records: Mutex::new(Cache::new(CAPACITY)) }
    }

    /// The time until the network may try again, if it must wait.
    pub(crate) fn retry_after(&self, network: IpNet, now: DateTime<Utc>) -> Option<Duration> {
        if self.free_attempts == 0 {
            return None;
        }
        self.with(|records| records.get(&network)?.retry_after(self.free_attempts, now))
    }

    /// Records an invalid credential.
    ///
    /// Returns the wait, and does not count the attempt, if concurrent attempts of the network
    /// already caused a wait. So concurrent attempts learn as little as successive ones.
    pub(crate) fn record_failure(&self, network: IpNet, now: DateTime<Utc>) -> Option<Duration> {
        if self.free_attempts == 0 {
            return None;
        }
        self.with(|records| {
            let before = records.get(&network).copied();
            let wait = before.and_then(|before| before.retry_after(self.free_attempts, now));
            if wait.is_none() {
                records
                    .insert(network, FailureRecord::after_failure(before, self.free_attempts, now));
            }
            wait
        })
    }

    /// Subtracts one failure, because an app of the network proved that it has its key. After a key
    /// rotation, every client of a network fails once with its old token and then requests a new
    /// one.
    pub(crate) fn forgive_one(&self, network: IpNet) {
        if self.free_attempts == 0 {
            return;
        }
        self.with(|records| {
            let Some(record) = records.get(&network).copied() else { return };
            match record.failures.saturating_sub(1) {
                0 => drop(records.remove(&network)),
                failures => records.insert(network, FailureRecord { failures, ..record }),
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Cache<IpNet, FailureRecord>) -> T) -> T {
        // No code panics while it holds the lock.
        work(&mut self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl FailureRecord {
    fn retry_after(&self, allowed: u32, now: DateTime<Utc>) -> Option<Duration> {
        if self.failures < allowed {
            return None;
        }
        (self.blocked_until - now).to_std().ok().filter(|wait| !wait.is_zero())
    }

    fn after_failure(before: Option<Self>, allowed: u32, now: DateTime<Utc>) -> Self {
        let before = before.filter(|before| now < before.blocked_until + RESET_AFTER);
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        let wait = failures.checked_sub(allowed).map_or(0, backoff);
        Self { failures, blocked_until: now + TimeDelta::seconds(wait) }
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
    use proptest::prelude::*;

    use super::*;

    const ALLOWED: u32 = 3;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn network(last: u8) -> IpNet {
        format!("192.0.2.{last}/32").parse().unwrap()
    }

    #[test]
    fn backoff_grows_and_resets() {
        let throttle = AttemptThrottle::new(ALLOWED);
        let seconds = |now| throttle.retry_after(network(1), at(now)).map(|wait| wait.as_secs());
        for now in [0, 10] {
            throttle.record_failure(network(1), at(now));
            assert_eq!(seconds(now), None);
        }
        let mut now = 20;
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            throttle.record_failure(network(1), at(now));
            assert_eq!(seconds(now), Some(wait), "at {now}");
            now += i64::try_from(wait).unwrap();
            assert_eq!(seconds(now), None, "at {now}");
        }
        assert_eq!(throttle.retry_after(network(2), at(now)), None, "other networks do not wait");
        now += 60;
        for _ in 0..2 {
            throttle.record_failure(network(1), at(now));
            assert_eq!(seconds(now), None, "the failures are forgotten");
        }
    }

    #[test]
    fn success_forgives_a_failure() {
        let throttle = AttemptThrottle::new(ALLOWED);
        for _ in 0..4 {
            throttle.record_failure(network(1), at(0));
        }
        assert!(
            throttle.retry_after(network(1), at(0)).is_some(),
            "concurrent failures count once"
        );
        throttle.forgive_one(network(1));
        assert_eq!(throttle.retry_after(network(1), at(0)), None);
        for _ in 0..9 {
            throttle.forgive_one(network(1));
        }
        throttle.record_failure(network(1), at(0));
        assert_eq!(throttle.retry_after(network(1), at(0)), None, "successes do not accumulate");
    }

    #[test]
    fn concurrent_failures_are_throttled() {
        let throttle = AttemptThrottle::new(ALLOWED);
        let waits: Vec<_> = (0..5).map(|_| throttle.record_failure(network(1), at(0))).collect();
        let second = Some(Duration::from_secs(1));
        assert_eq!(waits, [None, None, None, second, second]);
        assert_eq!(throttle.retry_after(network(1), at(0)), second, "the rest does not count");
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = AttemptThrottle::new(1);
        for number in 0..100_000_u32 {
            throttle
                .record_failure(IpNet::from(std::net::IpAddr::from(number.to_be_bytes())), at(0));
        }
        assert!(throttle.with(|records| records.len()) <= CAPACITY);
    }

    #[test]
    fn throttling_can_be_disabled() {
        let throttle = AttemptThrottle::new(0);
        for _ in 0..99 {
            throttle.record_failure(network(1), at(0));
        }
        assert_eq!(throttle.retry_after(network(1), at(0)), None);
    }

    proptest! {
        #[test]
        fn backoff_is_bounded(
            failures in prop::collection::vec(0..100_i64, 1..80),
            allowed in 1..20_u32,
        ) {
            let throttle = AttemptThrottle::new(allowed);
            let mut now = 0;
            for (number, pause) in failures.into_iter().enumerate() {
                now += pause;
                throttle.record_failure(network(1), at(now));
                let wait = throttle.retry_after(network(1), at(now));
                prop_assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(300)));
                prop_assert!(number + 1 >= allowed as usize || wait.is_none());
            }
        }
    }
}
