//! The callback worker and its sender, built from the configuration.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::crypto::install_crypto_provider;
use super::database::pool_limits;
use crate::clock::Clock;
use crate::config::Settings;
use crate::delivery::{
    CallbackSender, CallbackTimeouts, NetworkPolicy, Options, RetrySchedule, Worker,
};
use crate::metrics::Metrics;
use crate::repository::Pool;
use crate::service::AppDirectory;

/// The time by which a lease outlasts the longest attempt: the worker must write the result, and
/// the clocks of several servers differ.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// The worker that sends callbacks, built from the configuration.
///
/// # Errors
/// The HTTP client cannot be built.
pub fn worker(
    settings: &Settings,
    pool: Pool,
    directory: Arc<AppDirectory>,
    clock: Clock,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Worker> {
    let delivery = &settings.delivery;
    let options = Options {
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
    };
    let (limits, sender) = (pool_limits(settings), sender(settings)?);
    Ok(Worker::new(pool, limits, directory, sender, clock, options, metrics))
}

/// The addresses that callbacks may go to, by the configuration.
pub(super) fn network_policy(settings: &Settings) -> NetworkPolicy {
    let delivery = &settings.delivery;
    NetworkPolicy { allow: delivery.allow_networks.clone(), deny: delivery.deny_networks.clone() }
}

/// The HTTP client for callbacks, built from the configuration.
pub(super) fn sender(settings: &Settings) -> anyhow::Result<CallbackSender> {
    install_crypto_provider();
    let delivery = &settings.delivery;
    let network_policy = network_policy(settings);
    let timeouts =
        CallbackTimeouts { connect: delivery.connect_timeout, attempt: delivery.attempt_timeout };
    CallbackSender::new(network_policy, timeouts).context("cannot send callbacks")
}
