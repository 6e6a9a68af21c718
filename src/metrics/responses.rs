//! Large responses that their clients have not read yet.

use std::fmt;

use super::page::MetricsWriter;
use super::{Counter, Gauge};

/// Large responses that their clients have not read yet.
#[derive(Debug, Default)]
pub struct ResponseStats {
    /// Their size in bytes.
    pub held_bytes: Gauge,
    /// Responses to reads that were rejected because an enterprise had too many of them.
    pub rejected: Counter,
}

impl ResponseStats {
    pub(super) fn write(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let help =
            "Size of the responses of more than 16 KiB that their clients have not read yet.";
        let held = self.held_bytes.value().unsigned_abs();
        writer.gauge("muster_responses_held_bytes", help, held)?;
        let help = "Reads that were rejected because the enterprise had too many unread responses.";
        writer.counter("muster_responses_rejected", help, self.rejected.value())
    }
}
