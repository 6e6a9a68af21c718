//! The only source of the current time.
//!
//! Code that needs the time takes a [`Clock`]. Tests move a manual clock, so no test sleeps until a
//! token expires. Clippy forbids `Utc::now` elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, TimeDelta, Utc};

/// Microseconds of a second.
const MICROS_PER_SECOND: i64 = 1_000_000;

/// The time in whole microseconds, the resolution of PostgreSQL's `timestamptz`. A stored time
/// therefore equals the original time.
#[derive(Clone, Debug)]
pub struct Clock(TimeSource);

#[derive(Clone, Debug)]
enum TimeSource {
    /// The clock of the machine, plus this number of microseconds.
    System(i64),
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub fn system() -> Self {
        Self(TimeSource::System(0))
    }

    /// The clock of a machine that is wrong by `difference`, for tests of several servers.
    #[must_use]
    pub fn wrong_by(difference: TimeDelta) -> Self {
        Self(TimeSource::System(difference.num_microseconds().unwrap_or_default()))
    }

    /// A clock that stays at `start` until [`Clock::advance`] moves it. Clones share the time.
    #[must_use]
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self(TimeSource::Manual(Arc::new(AtomicI64::new(start.timestamp_micros()))))
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.unix_micros()).unwrap_or_default()
    }

    /// The current time in whole seconds since 1970, as [`DateTime::timestamp`] of [`Clock::now`], without the
    /// conversion to a date.
    #[must_use]
    pub fn unix_seconds(&self) -> i64 {
        self.unix_micros().div_euclid(MICROS_PER_SECOND)
    }

    fn unix_micros(&self) -> i64 {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the clock")]
            TimeSource::System(ahead) => {
                // A machine whose clock shows a time before 1970 has the first moment of 1970.
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_micros()).unwrap_or(i64::MAX).saturating_add(*ahead)
            }
            TimeSource::Manual(at) => at.load(Ordering::Relaxed),
        }
    }

    /// The time of a manual clock, for statements that take the time of the database otherwise.
    #[must_use]
    pub fn fixed_time(&self) -> Option<DateTime<Utc>> {
        matches!(self.0, TimeSource::Manual(_)).then(|| self.now())
    }

    /// Moves a manual clock forward. Has no effect on the system clock.
    pub fn advance(&self, by: Duration) {
        if let TimeSource::Manual(at) = &self.0 {
            let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            at.fetch_add(micros, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_by_advance() {
        let start = DateTime::from_timestamp(1_718_000_000, 0).unwrap();
        let clock = Clock::manual(start);
        let other = clock.clone();
        assert_eq!(clock.now(), start);
        other.advance(Duration::from_secs(7));
        assert_eq!((clock.now() - start).num_seconds(), 7);
        assert_eq!(clock.fixed_time(), Some(clock.now()));
        assert_eq!(clock.unix_seconds(), clock.now().timestamp());
        let early = Clock::manual(DateTime::from_timestamp(-2, 1_000).unwrap());
        assert_eq!((early.unix_seconds(), early.now().timestamp()), (-2, -2));
    }

    #[test]
    fn wrong_clock_differs_from_that_of_the_machine() {
        let clock = Clock::wrong_by(TimeDelta::days(-1));
        let difference = Clock::system().now() - clock.now();
        assert!((TimeDelta::hours(23)..TimeDelta::hours(25)).contains(&difference), "{difference}");
        assert_eq!(clock.fixed_time(), None);
    }

    #[test]
    fn the_system_clock_has_no_nanoseconds() {
        assert_eq!(Clock::system().now().timestamp_subsec_nanos() % 1_000, 0);
    }
}
