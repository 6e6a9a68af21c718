//! The settings of the callback worker.

use std::time::Duration;

use super::RetrySchedule;

/// The settings of the callback worker.
#[derive(Clone, Debug)]
pub struct Options {
    /// The maximum number of concurrent attempts.
    pub max_concurrency: usize,
    /// The maximum number of concurrent attempts to one app.
    pub max_concurrency_per_app: usize,
    /// The time for which a claimed delivery belongs to this server. It must be longer than the
    /// time in the buffer and the attempt together.
    pub lease: Duration,
    /// The interval between two searches for deliveries that became due or that other servers
    /// wrote.
    pub poll_interval: Duration,
    /// The waits between attempts.
    pub retry_schedule: RetrySchedule,
    /// The time after which delivered callbacks are deleted.
    pub delivered_retention: Duration,
    /// The time after which failed callbacks are deleted.
    pub failed_retention: Duration,
}
