//! The callback worker and its parts, from the configuration.

use std::sync::Arc;
use std::time::Duration;

use super::{CallbackSender, CallbackTimeouts, NetworkPolicy, Options, RetrySchedule, Worker};
use crate::clock::Clock;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::repository::Pool;
use crate::repository::connections::pool::PoolLimits;
use crate::service::AppDirectory;

/// The time by which a lease outlasts the longest attempt: the worker must write the result, and
/// the clocks of several servers differ.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

impl Worker {
    /// The worker of the configuration, which sends to the apps of `directory` and counts in `metrics`.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn from_settings(
        settings: &Settings,
        pool: Pool,
        directory: Arc<AppDirectory>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        let sender = CallbackSender::from_settings(settings)?;
        let (limits, options) =
            (PoolLimits::from_settings(settings), Options::from_settings(settings));
        Ok(Self::new(pool, limits, directory, sender, clock, options, metrics))
    }
}

impl Options {
    /// The settings of the configuration. A lease outlasts the longest attempt by 30 s.
    #[must_use]
    pub fn from_settings(Settings { delivery, .. }: &Settings) -> Self {
        Self {
            max_concurrency: delivery.max_concurrency,
            max_concurrency_per_app: delivery.max_concurrency_per_app,
            lease: delivery.attempt_timeout + LEASE_MARGIN,
            poll_interval: delivery.poll_interval,
            retry_schedule: RetrySchedule {
                waits: delivery.retry_schedule.clone(),
                give_up_after: delivery.give_up_after,
            },
            delivered_retention: delivery.delivered_retention,
            failed_retention: delivery.failed_retention,
        }
    }
}

impl CallbackSender {
    /// The sender of the configuration. The process needs a provider of cryptography before.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn from_settings(settings: &Settings) -> Result<Self, reqwest::Error> {
        let delivery = &settings.delivery;
        let timeouts = CallbackTimeouts {
            connect: delivery.connect_timeout,
            attempt: delivery.attempt_timeout,
        };
        Self::new(NetworkPolicy::from_settings(settings), timeouts)
    }
}

impl NetworkPolicy {
    /// The addresses that callbacks may go to, by the configuration.
    #[must_use]
    pub fn from_settings(Settings { delivery, .. }: &Settings) -> Self {
        Self { allow: delivery.allow_networks.clone(), deny: delivery.deny_networks.clone() }
    }
}
