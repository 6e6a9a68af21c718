//! Bytes below TLS. Records are not parsed here.

use std::cell::Cell;

use tokio::time::Instant;

/// Bytes below TLS that have produced no byte above TLS yet, so they may be a partial record.
/// Without TLS there are no such bytes.
///
/// The surprise: the beginning of a record that comes in one read with the end of another one is
/// not noticed before its next byte. Records are not parsed here.
#[derive(Debug, Default)]
pub(super) struct UndecodedBytes {
    /// When the first of these bytes came.
    since: Cell<Option<Instant>>,
}

impl UndecodedBytes {
    /// Records bytes below TLS.
    pub(super) fn on_bytes(&self) {
        if self.since.get().is_none() {
            self.restart();
        }
    }

    /// Records bytes above TLS. Returns when the first of them came below TLS.
    pub(super) fn decoded(&self) -> Option<Instant> {
        self.since.take()
    }

    /// When the first of these bytes came.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since.get()
    }

    /// Restarts the time of the bytes, if there are any.
    pub(super) fn restart_if_any(&self) {
        if self.since.get().is_some() {
            self.restart();
        }
    }

    fn restart(&self) {
        self.since.set(Some(Instant::now()));
    }
}
