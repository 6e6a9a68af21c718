//! Durations of requests: whole seconds with a unit, such as `20s`.

use std::time::Duration;

use crate::domain::quoted;
use crate::http::v1::problem::{Code, Problem};

/// The longest wait of a request, in seconds.
pub(in crate::http::v1) const MAX_WAIT_SECONDS: u64 = 60;

/// Reads a duration of 1 to `max` seconds. The text has at most as many digits as `max`. `code` and `field`
/// are those of the problem.
pub(in crate::http::v1) fn read(
    code: Code,
    field: &str,
    text: &str,
    max: u64,
) -> Result<Duration, Problem> {
    let max_digits = max.to_string().len();
    let digits = text.strip_suffix('s').filter(|digits| {
        digits.len() <= max_digits && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    let seconds = digits.and_then(|digits| digits.parse().ok());
    seconds.filter(|seconds| (1..=max).contains(seconds)).map(Duration::from_secs).ok_or_else(
        || {
            let reason = format!("must be 1s to {max}s, got {}", quoted(text));
            Problem::for_field(code, field, reason)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_seconds_within_limits() {
        for (text, max, expected) in [
            ("1s", 60, Some(1)),
            ("30s", 60, Some(30)),
            ("60s", 60, Some(60)),
            ("09s", 60, Some(9)),
            ("00060s", 43_200, Some(60)),
            ("000060s", 43_200, None),
            ("43200s", 43_200, Some(43_200)),
            ("43201s", 43_200, None),
            ("060s", 60, None),
            ("100s", 60, None),
            ("61s", 60, None),
            ("0s", 60, None),
            ("00s", 60, None),
            ("", 60, None),
            ("s", 60, None),
            ("30", 60, None),
            ("1.5s", 60, None),
            ("-1s", 60, None),
            ("+1s", 60, None),
            ("1m", 60, None),
            ("1 s", 60, None),
            ("1S", 60, None),
            ("1ss", 60, None),
            ("99999999999999999999s", u64::MAX, None),
        ] {
            let found = read(Code::InvalidField, "wait", text, max);
            assert_eq!(found.ok().map(|found| found.as_secs()), expected, "{text} {max}");
        }
    }

    #[test]
    fn problem_names_the_field_and_the_limit() {
        let problem = read(Code::InvalidParameter, "wait", "x", 60).unwrap_err();
        assert_eq!(problem.to_string(), "invalid_parameter wait: must be 1s to 60s, got \"x\"");
    }
}
