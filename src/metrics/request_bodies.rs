//! The memory for the bodies of running requests.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Counter;
use super::page::MetricsWriter;

/// The memory for the bodies of running requests.
#[derive(Debug, Default)]
pub struct RequestBodies {
    /// The bytes that running requests hold. One number for all threads, because requests are refused
    /// by it.
    pub in_flight: AtomicU64,
    /// The maximum number of bytes.
    pub max: AtomicU64,
    /// Requests that were refused because their body did not fit.
    pub rejected: Counter,
}

impl RequestBodies {
    pub(super) fn write(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let help = "Bytes of bodies that running requests hold.";
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        writer.gauge("muster_request_body_in_flight_bytes", help, in_flight)?;
        let help = "Maximum number of these bytes.";
        let max = self.max.load(Ordering::Relaxed);
        writer.gauge("muster_request_body_max_bytes", help, max)?;
        let help = "Requests that were rejected because their body did not fit into the memory for bodies.";
        writer.counter("muster_request_bodies_rejected", help, self.rejected.value())
    }
}
