//! The header `Retry-After`, the same in every API.

use std::time::Duration;

use actix_web::HttpResponseBuilder;
use actix_web::http::header::RETRY_AFTER;

/// The longest wait in a response: the service may recover earlier than computed.
const MAX_SECONDS: u64 = 300;

/// A wait in whole seconds, at least one.
pub(crate) fn retry_after_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).clamp(1, MAX_SECONDS)
}

/// Writes the header if the response has a wait, in seconds.
pub(crate) fn insert(response: &mut HttpResponseBuilder, seconds: Option<u64>) {
    if let Some(seconds) = seconds {
        response.insert_header((RETRY_AFTER, seconds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up() {
        for (millis, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (3_600_000, 300)] {
            assert_eq!(retry_after_seconds(Duration::from_millis(millis)), seconds, "{millis} ms");
        }
    }
}
