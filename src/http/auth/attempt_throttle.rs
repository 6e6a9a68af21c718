//! Who tried too many credentials that were not valid, and how long he must wait.
//!
//! What is held off is guessing, not an address: whole offices share one. A valid credential works
//! all the time, and is known for valid in memory, without asking here at all. While an address is
//! held off, one that is not in memory is not looked for in the database: guessing on costs next
//! to nothing and gets no other answer. All of this is known to this server only, until it ends.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ipnet::IpNet;
use quick_cache::unsync::Cache;

/// Failures of an address add up until there has been none for this long, nor a wait.
const RESET_AFTER: TimeDelta = TimeDelta::seconds(60);
/// The longest wait, in seconds.
const MAX_WAIT: i64 = 300;
/// How many addresses are remembered; each takes about 100 bytes.
const CAPACITY: usize = 16_384;

/// The addresses that guess.
pub(crate) struct AttemptThrottle {
    /// How many failures are for nothing; 0 = all.
    free_attempts: u32,
    records: Mutex<Cache<IpNet, FailureRecord>>,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FailureRecord {
    failures: u32,
    /// When it failed for the last time, or when its wait is over if that is later.
    blocked_until: DateTime<Utc>,
}

impl AttemptThrottle {
    /// Counts failures, of which `allowed` are for nothing; 0 = all are.
    pub(crate) fn new(free_attempts: u32) -> Self {
        Self { free_attempts, records: Mutex::new(Cache::new(CAPACITY)) }
    }

    /// How long an address must wait until it is listened to again, if it must.
    pub(crate) fn retry_after(&self, network: IpNet, now: DateTime<Utc>) -> Option<Duration> {
        if self.free_attempts == 0 {
            return None;
        }
        self.with(|records| records.get(&network)?.retry_after(self.free_attempts, now))
    }

    /// A credential was not valid. If others of its address failed meanwhile, so that it must wait by
    /// now, this one does not count, and must wait as well: of those that come at once no more are
    /// told that they failed than of those that come one by one.
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

    /// An app proved there that it has its key, which makes up for one failure: when a key is
    /// rotated, everybody behind an address fails once with his old token and asks for a new one.
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
        // Nothing panics while it is held.
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

/// 1, 2, 4 … seconds.
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
        let guesses = AttemptThrottle::new(ALLOWED);
        let seconds = |now| guesses.retry_after(network(1), at(now)).map(|wait| wait.as_secs());
        for now in [0, 10] {
            guesses.record_failure(network(1), at(now));
            assert_eq!(seconds(now), None);
        }
        let mut now = 20;
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            guesses.record_failure(network(1), at(now));
            assert_eq!(seconds(now), Some(wait), "at {now}");
            now += i64::try_from(wait).unwrap();
            assert_eq!(seconds(now), None, "at {now}");
        }
        assert_eq!(guesses.retry_after(network(2), at(now)), None, "another one is not concerned");
        now += 60;
        for _ in 0..2 {
            guesses.record_failure(network(1), at(now));
            assert_eq!(seconds(now), None, "all is forgotten");
        }
    }

    #[test]
    fn success_forgives_a_failure() {
        let guesses = AttemptThrottle::new(ALLOWED);
        for _ in 0..4 {
            guesses.record_failure(network(1), at(0));
        }
        assert!(guesses.retry_after(network(1), at(0)).is_some(), "those at once count as one");
        guesses.forgive_one(network(1));
        assert_eq!(guesses.retry_after(network(1), at(0)), None);
        for _ in 0..9 {
            guesses.forgive_one(network(1));
        }
        guesses.record_failure(network(1), at(0));
        assert_eq!(guesses.retry_after(network(1), at(0)), None, "nothing is saved up");
    }

    #[test]
    fn concurrent_failures_are_throttled() {
        let guesses = AttemptThrottle::new(ALLOWED);
        let told: Vec<_> = (0..5).map(|_| guesses.record_failure(network(1), at(0))).collect();
        let second = Some(Duration::from_secs(1));
        assert_eq!(told, [None, None, None, second, second]);
        assert_eq!(guesses.retry_after(network(1), at(0)), second, "they are one");
    }

    #[test]
    fn memory_is_bounded() {
        let guesses = AttemptThrottle::new(1);
        for number in 0..100_000_u32 {
            guesses
                .record_failure(IpNet::from(std::net::IpAddr::from(number.to_be_bytes())), at(0));
        }
        assert!(guesses.with(|suspects| suspects.len()) <= CAPACITY);
    }

    #[test]
    fn throttling_can_be_disabled() {
        let guesses = AttemptThrottle::new(0);
        for _ in 0..99 {
            guesses.record_failure(network(1), at(0));
        }
        assert_eq!(guesses.retry_after(network(1), at(0)), None);
    }

    proptest! {
        #[test]
        fn backoff_is_bounded(
            failures in prop::collection::vec(0..100_i64, 1..80),
            allowed in 1..20_u32,
        ) {
            let guesses = AttemptThrottle::new(allowed);
            let mut now = 0;
            for (number, pause) in failures.into_iter().enumerate() {
                now += pause;
                guesses.record_failure(network(1), at(now));
                let wait = guesses.retry_after(network(1), at(now));
                prop_assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(300)));
                prop_assert!(number + 1 >= allowed as usize || wait.is_none());
            }
        }
    }
}
