//! `[delivery]`: the sending of callbacks.

use std::time::Duration;

use ipnet::IpNet;

use super::duration::{DAY, MIN_TIMEOUT, MINUTE, SECOND};
use super::read::Reader;

/// `[delivery]`: the sending and the retention of callbacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// Whether this server sends callbacks.
    pub enabled: bool,
    /// The maximum number of callbacks in flight.
    pub max_concurrency: usize,
    /// The maximum number of callbacks in flight to one app.
    pub max_concurrency_per_app: usize,
    /// The time limit to open a connection.
    pub connect_timeout: Duration,
    /// The time limit until the response is read; at least [`DeliveryConfig::connect_timeout`].
    pub attempt_timeout: Duration,
    /// The interval between two searches for due callbacks.
    pub poll_interval: Duration,
    /// The delays after failed attempts. The last delay repeats. Never empty.
    pub retry_schedule: Vec<Duration>,
    /// The time after the first attempt at which a callback fails permanently.
    pub give_up_after: Duration,
    /// The only networks that callbacks may reach; empty = all.
    pub allow_networks: Vec<IpNet>,
    /// Networks that callbacks may not reach.
    pub deny_networks: Vec<IpNet>,
    /// The time for which delivered callbacks are stored.
    pub delivered_retention: Duration,
    /// The time for which failed callbacks are stored.
    pub failed_retention: Duration,
}

impl DeliveryConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let delivery = Self {
            enabled: reader.boolean("delivery.enabled"),
            max_concurrency: reader.number("delivery.max_concurrency", 1..=1_000),
            max_concurrency_per_app: reader.number("delivery.max_concurrency_per_app", 1..=1_000),
            connect_timeout: reader.duration("delivery.connect_timeout", MIN_TIMEOUT..=MINUTE),
            attempt_timeout: reader.duration("delivery.attempt_timeout", MIN_TIMEOUT..=MINUTE),
            poll_interval: reader.duration("delivery.poll_interval", MIN_TIMEOUT / 10..=MINUTE),
            retry_schedule: reader.durations(
                "delivery.retry_schedule",
                MIN_TIMEOUT..=DAY,
                "a list of durations from 100ms to 1day, not empty",
            ),
            give_up_after: reader.duration("delivery.give_up_after", SECOND..=30 * DAY),
            allow_networks: reader.networks("delivery.allow_networks"),
            deny_networks: reader.networks("delivery.deny_networks"),
            delivered_retention: reader
                .duration("delivery.delivered_retention", MINUTE..=3_650 * DAY),
            failed_retention: reader.duration("delivery.failed_retention", MINUTE..=3_650 * DAY),
        };
        if delivery.connect_timeout > delivery.attempt_timeout {
            reader.add_contradiction(
                "delivery.connect_timeout",
                "at most",
                "delivery.attempt_timeout",
            );
        }
        delivery
    }
}
