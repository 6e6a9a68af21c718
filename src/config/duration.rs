//! Durations in settings and in messages.

use std::ops::RangeInclusive;
use std::time::Duration;

use ::config::ValueKind;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// The shortest time limit that a working machine can keep.
pub(super) const MIN_TIMEOUT: Duration = Duration::from_millis(100);

/// Seconds as a number, or text with units.
pub(super) fn read(kind: &ValueKind) -> Option<Duration> {
    match kind {
        ValueKind::I64(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        // Values in the environment are always text.
        ValueKind::String(text) => match text.trim().parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => humantime::parse_duration(text).ok(),
        },
        _ => None,
    }
}

/// A range of durations in words, each in the largest unit that gives a whole number.
pub(super) fn describe_range(range: &RangeInclusive<Duration>) -> String {
    let describe = |duration: &Duration| {
        let millis = duration.as_millis();
        let units = [(86_400_000, "days"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.into_iter().find(|(unit, _)| millis.is_multiple_of(*unit)) {
            Some((unit, "days")) if millis == unit => "1day".to_owned(),
            Some((unit, name)) => format!("{}{name}", millis / unit),
            None => format!("{millis}ms"),
        }
    };
    if range.start().is_zero() {
        return format!("of at most {}", describe(range.end()));
    }
    format!("from {} to {}", describe(range.start()), describe(range.end()))
}
