//! Reads of the histories of sessions.

use std::fmt;

use super::Counter;
use super::page::MetricsWriter;

/// Reads of the histories of sessions.
#[derive(Debug, Default)]
pub struct HistoryStats {
    /// Past versions that were built from events.
    pub replays: Counter,
    /// Events that were read.
    pub events_read: Counter,
    /// The size of the changes of these events, in bytes of JSON.
    pub bytes_read: Counter,
    /// Snapshots that were written.
    pub snapshots_written: Counter,
}

impl HistoryStats {
    pub(super) fn write(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let help = "Past versions of sessions that were built from events.";
        writer.counter("muster_history_replays", help, self.replays.value())?;
        let help = "Events that were read for past versions and for pages of histories.";
        writer.counter("muster_history_events_read", help, self.events_read.value())?;
        let help = "Size of the changes of these events.";
        writer.counter("muster_history_read_bytes", help, self.bytes_read.value())?;
        let help = "Snapshots of sessions that were written, to start later reads there.";
        writer.counter("muster_history_snapshots_written", help, self.snapshots_written.value())
    }
}
