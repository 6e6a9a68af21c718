//! How callbacks are sent, as it is configured.

use std::time::Duration;

use super::RetrySchedule;

/// How callbacks are sent.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many may be under way.
    pub max_concurrency: usize,
    /// How many of them to one app.
    pub max_concurrency_per_app: usize,
    /// How long a delivery is ours; longer than it waits for a place and sending can take.
    pub lease: Duration,
    /// How often it is looked for what became due, or was written by other servers.
    pub poll_interval: Duration,
    /// When to try again.
    pub retry_schedule: RetrySchedule,
    /// How long delivered ones are kept.
    pub delivered_retention: Duration,
    /// How long failed ones are kept.
    pub failed_retention: Duration,
}
