//! The warning before API keys expire.

use chrono::{DateTime, TimeDelta, Utc};

use crate::repository::keys;
use crate::wire::ApiKeyHash;

/// The time before the expiry of a key at which the warnings start: that of certificates.
const WARNING_PERIOD: TimeDelta = TimeDelta::days(14);
/// The interval between two warnings in the log.
const LOG_INTERVAL: TimeDelta = TimeDelta::days(1);

/// The keys that expire soon. Keys that have expired do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ExpiringKeys {
    /// The number of keys that expire soon.
    count: usize,
    /// The next expiry of all keys, soon or not.
    next: Option<(DateTime<Utc>, ApiKeyHash)>,
}

impl ExpiringKeys {
    pub(super) fn find<'a>(
        keys: impl Iterator<Item = (&'a ApiKeyHash, DateTime<Utc>)>,
        now: DateTime<Utc>,
    ) -> Self {
        let mut found = Self::default();
        for (hash, expires_at) in keys.filter(|(_, expires_at)| *expires_at > now) {
            found.count += usize::from(is_soon(expires_at, now));
            let key = (expires_at, *hash);
            found.next = Some(found.next.map_or(key, |next| next.min(key)));
        }
        found
    }

    /// The next expiry of all keys.
    pub(super) fn next_expiry(&self) -> Option<DateTime<Utc>> {
        self.next.map(|(expires_at, _)| expires_at)
    }
}

/// Whether a key that expires at this time needs a warning.
pub(in crate::service) fn is_soon(expires_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    expires_at > now && expires_at - now <= WARNING_PERIOD
}

/// Writes a line about keys that expire soon, once a day.
#[derive(Debug, Default)]
pub(super) struct KeyExpiryLog {
    warned_at: Option<DateTime<Utc>>,
}

impl KeyExpiryLog {
    pub(super) fn warn(&mut self, keys: &ExpiringKeys, now: DateTime<Utc>) {
        let Some((expires_at, hash)) = keys.next.filter(|_| keys.count > 0) else { return };
        if self.is_due(now) {
            tracing::warn!(
                keys = keys.count,
                key = keys::id(&hash),
                %expires_at,
                "API keys expire soon: give their clients new ones (`muster key create`); the first one is"
            );
        }
    }

    fn is_due(&mut self, now: DateTime<Utc>) -> bool {
        let is_due = self.warned_at.is_none_or(|warned_at| now - warned_at >= LOG_INTERVAL);
        if is_due {
            self.warned_at = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(days: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + days * 86_400, 0).unwrap()
    }

    #[test]
    fn keys_that_expire_within_two_weeks_are_found() {
        let hash = |byte| [byte; 32];
        let find = |keys: &[(ApiKeyHash, DateTime<Utc>)]| {
            ExpiringKeys::find(keys.iter().map(|(hash, at)| (hash, *at)), day(0))
        };
        assert_eq!(find(&[]), ExpiringKeys::default());
        let found = find(&[(hash(1), day(14)), (hash(2), day(15)), (hash(3), day(0))]);
        assert_eq!(found, ExpiringKeys { count: 1, next: Some((day(14), hash(1))) });
        let found = find(&[(hash(2), day(15)), (hash(3), day(-1))]);
        assert_eq!((found.count, found.next_expiry()), (0, Some(day(15))));
    }

    #[test]
    fn log_has_one_warning_a_day() {
        let mut log = KeyExpiryLog::default();
        let due: Vec<bool> =
            (0..4).map(|half| log.is_due(day(0) + TimeDelta::hours(12 * half))).collect();
        assert_eq!(due, [true, false, true, false]);
    }
}
