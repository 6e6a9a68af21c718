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
    /// How long a claimed delivery belongs to this server; longer than buffering and sending can
    /// take.
    pub lease: Duration,
    /// How often the worker looks for deliveries that became due or that other servers wrote.
    pub poll_interval: Duration,
    /// The waits between attempts.
    pub retry_schedule: RetrySchedule,
    /// How long delivered callbacks are kept.
    pub delivered_retention: Duration,
    /// How long failed callbacks are kept.
    pub failed_retention: Duration,
}
