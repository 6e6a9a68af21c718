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
    started_at: Cell<Option<Instant>>,
}

impl UndecodedBytes {
    /// Records bytes below TLS.
    pub(super) fn on_bytes(&self) {
        if self.started_at.get().is_none() {
            self.restart();
        }
    }

    /// Records bytes above TLS. Returns when the first of them came below TLS.
    pub(super) fn decoded(&self) -> Option<Instant> {
        self.started_at.take()
    }

    /// When the first of these bytes came.
    pub(super) fn started_at(&self) -> Option<Instant> {
        self.started_at.get()
    }

    /// Restarts the time of the bytes, if there are any.
    pub(super) fn restart_if_any(&self) {
        if self.started_at.get().is_some() {
            self.restart();
        }
    }

    fn restart(&self) {
        self.started_at.set(Some(Instant::now()));
    }
}
