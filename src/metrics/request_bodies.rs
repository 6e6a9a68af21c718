//! The memory for the bodies of running requests.

use std::sync::atomic::AtomicU64;

use super::Counter;

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
