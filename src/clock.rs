//! The only source of the current time.
//!
//! Code that needs the time takes a [`Clock`]. Tests move a manual clock, so no test sleeps until a
//! token expires. Clippy forbids `Utc::now` elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

/// The time in whole microseconds, the resolution of PostgreSQL's `timestamptz`. A stored time
/// therefore equals the original time.
#[derive(Clone, Debug)]
pub struct Clock(TimeSource);

#[derive(Clone, Debug)]
enum TimeSource {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub fn system() -> Self {
        Self(TimeSource::System)
    }

    /// A clock that stays at `start` until [`Clock::advance`] moves it. Clones share the time.
    #[must_use]
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self(TimeSource::Manual(Arc::new(AtomicI64::new(start.timestamp_micros()))))
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let micros = match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the clock")]
            TimeSource::System => Utc::now().timestamp_micros(),
            TimeSource::Manual(at) => at.load(Ordering::Relaxed),
        };
        DateTime::from_timestamp_micros(micros).unwrap_or_default()
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
    }

    #[test]
    fn the_system_clock_has_no_nanoseconds() {
        assert_eq!(Clock::system().now().timestamp_subsec_nanos() % 1_000, 0);
    }
}
