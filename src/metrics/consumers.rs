//! The consumers of the feed.

use std::fmt;

use super::page::MetricsWriter;

/// Consumers of the feed, of all apps. They have no labels, because apps choose their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerStats {
    /// The number of consumers.
    pub consumers: u64,
    /// The number of those that will be removed soon, because they are not used.
    pub idle: u64,
    /// The largest number of changes that a consumer has not done.
    pub max_lag: u64,
    /// The number of events that members have under a lease.
    pub leased: u64,
    /// The number of events that members may get.
    pub ready: u64,
    /// The number of events that failed too often.
    pub parked: u64,
}

impl ConsumerStats {
    pub(super) fn write(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let help = "Consumers of the feed, of all apps.";
        writer.gauge("muster_consumers", help, self.consumers)?;
        let help = "Consumers that were not used for 23 days, and are removed after 30 days.";
        writer.gauge("muster_consumers_idle", help, self.idle)?;
        let help = "The largest number of changes that a consumer has not done.";
        writer.gauge("muster_consumer_max_lag_events", help, self.max_lag)?;
        let help = "Events that members of consumers have under a lease.";
        writer.gauge("muster_consumer_events_leased", help, self.leased)?;
        let help = "Events that members of consumers may get.";
        writer.gauge("muster_consumer_events_ready", help, self.ready)?;
        let help = "Events of consumers that failed too often, and wait for their release.";
        writer.gauge("muster_consumer_events_parked", help, self.parked)
    }
}
