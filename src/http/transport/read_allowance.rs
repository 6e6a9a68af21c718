//! How long a client may let a response wait.
//!
//! A client that takes one byte at a time must not hold a response for ever. So each byte earns only the
//! time that it takes at the lowest allowed rate, and never more than the timeout. A client that reads
//! faster than this rate, or stops for less than the timeout, gets a response of any size.

use std::cell::Cell;
use std::time::Duration;

/// The lowest rate at which a client may read a response, in bytes per second.
const MIN_READ_RATE: u32 = 240;

/// The time for which the client may still read nothing.
#[derive(Debug)]
pub(super) struct ReadAllowance {
    max: Duration,
    left: Cell<Duration>,
}

impl ReadAllowance {
    /// The allowance of a client that has read everything.
    pub(super) fn new(write_timeout: Duration) -> Self {
        Self { max: write_timeout, left: Cell::new(write_timeout) }
    }

    /// The rest of the time.
    pub(super) fn left(&self) -> Duration {
        self.left.get()
    }

    /// Records that the client has read nothing for a time.
    pub(super) fn spend(&self, waited: Duration) {
        self.left.set(self.left.get().saturating_sub(waited));
    }

    /// Records that the client has read a number of bytes.
    pub(super) fn earn(&self, bytes: usize) {
        let left = self.left.get();
        if left < self.max {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let earned = Duration::from_secs(1).saturating_mul(bytes) / MIN_READ_RATE;
            self.left.set(left.saturating_add(earned).min(self.max));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// The bytes that a client gets if it waits for a time before each part.
    fn read(part: usize, pause: Duration) -> usize {
        let allowance = ReadAllowance::new(TIMEOUT);
        let mut read = 0;
        while read < 1 << 20 && allowance.left() > pause {
            allowance.spend(pause);
            allowance.earn(part);
            read += part;
        }
        read
    }

    #[test]
    fn single_bytes_hold_a_response_for_the_timeout_only() {
        assert_eq!(read(1, Duration::from_secs(15)), 2);
        assert!(read(1, Duration::from_secs(1)) < 40);
        // A client that is a little slower than the rate is given up at some time.
        assert!(read(230, Duration::from_secs(1)) < 1 << 20);
    }

    #[test]
    fn slow_reader_gets_a_response_of_any_size() {
        for (part, pause) in [(240, 1), (1 << 12, 17), (1 << 14, 29), (1 << 16, 29)] {
            assert!(read(part, Duration::from_secs(pause)) >= 1 << 20, "{part} in {pause} s");
        }
    }
}
