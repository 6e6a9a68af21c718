//! Times as text, in one form for the API and for commands.

use chrono::{DateTime, Utc};

/// The text is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a time with its zone, such as {}", InvalidTime::EXAMPLES)]
pub struct InvalidTime;

impl InvalidTime {
    /// Examples of every accepted form.
    pub const EXAMPLES: &str =
        "2024-06-10T06:13:20Z, 2024-06-10T06:13:20.5Z or 2024-06-10T08:13:20+02:00";
}

/// A time in the form of RFC 3339. The zone is required: a time without it means another moment on
/// another machine.
///
/// # Errors
/// [`InvalidTime`] for any other text.
pub fn parse_time(text: &str) -> Result<DateTime<Utc>, InvalidTime> {
    DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).map_err(|_| InvalidTime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_a_time() {
        let times = InvalidTime::EXAMPLES.split([',', ' ']).filter(|text| text.contains(':'));
        let seconds: Vec<i64> = times.map(|text| parse_time(text).unwrap().timestamp()).collect();
        assert_eq!(seconds, [1_718_000_000; 3]);
    }

    #[test]
    fn other_forms_are_no_times() {
        for text in [
            "",
            "yesterday",
            "2024-06-10",
            "2024-06-10T06:13:20",
            "2024-06-10T06:13Z",
            "2024-06-10T06:13:20 UTC",
            " 2024-06-10T06:13:20Z",
            "1718000000",
            "10.06.2024",
        ] {
            assert_eq!(parse_time(text), Err(InvalidTime), "{text}");
        }
    }
}
