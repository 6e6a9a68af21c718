//! Large responses that their clients have not read yet.

use std::fmt;

use super::page::MetricsWriter;
use super::{Counter, Gauge};

/// Large responses that their clients have not read yet.
#[derive(Debug, Default)]
pub struct ResponseStats {
    /// Their size in bytes.
    pub unread_bytes: Gauge,
    /// Responses to reads that were refused because an enterprise had too many of them.
    pub rejected: Counter,
}

impl ResponseStats {
    pub(super) fn write(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let help =
            "Size of the responses of more than 16 KiB that their clients have not read yet.";
        let unread = self.unread_bytes.value().unsigned_abs();
        writer.gauge("muster_unread_response_bytes", help, unread)?;
        let help = "Reads that were rejected because the enterprise had too many unread responses.";
        writer.counter("muster_responses_rejected", help, self.rejected.value())
    }
}
