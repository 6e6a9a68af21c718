//! The numbering of changes, and the readers that follow them.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::page::MetricsWriter;
use super::{Counter, Gauge};

/// The numbering of changes, as this server sees it.
#[derive(Debug, Default)]
pub struct FeedStats {
    /// Changes that this server has numbered.
    pub sequenced: Counter,
    /// Attempts to number changes, or to become the server that does, that failed.
    pub failures: Counter,
    head: AtomicI64,
    is_leader: AtomicBool,
    /// In microseconds.
    lag: AtomicU64,
    /// The streams that are open.
    streams: Gauge,
    /// The requests that wait for a change.
    waiters: Gauge,
    /// Changes that were sent to streams.
    pub events_sent: Counter,
    /// Streams whose client was too slow for its queue, and that read the missed changes.
    pub streams_behind: Counter,
    /// Streams that were ended because their clients read nothing.
    pub streams_closed: Counter,
}

impl FeedStats {
    /// Sets the number of the last change.
    pub fn set_head(&self, head: i64) {
        self.head.store(head, Ordering::Relaxed);
    }

    /// Sets whether this server numbers changes.
    pub fn set_leader(&self, is_leader: bool) {
        self.is_leader.store(is_leader, Ordering::Relaxed);
    }

    /// Sets the age of the oldest change that had no number, in seconds.
    pub fn set_lag(&self, seconds: f64) {
        let lag = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.lag.store(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The gauge of open streams, or that of waiting requests.
    pub fn subscriptions(&self, is_stream: bool) -> &Gauge {
        if is_stream { &self.streams } else { &self.waiters }
    }

    /// The number of open streams and waiting requests.
    #[must_use]
    pub fn open_subscriptions(&self) -> usize {
        usize::try_from(self.streams.value() + self.waiters.value()).unwrap_or_default()
    }

    pub(super) fn write(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let help = "Changes of sessions that have a number in the feed.";
        writer.gauge("muster_feed_head", help, self.head.load(Ordering::Relaxed))?;
        let help = "1 if this server numbers the changes of all servers.";
        let is_leader = self.is_leader.load(Ordering::Relaxed);
        writer.gauge("muster_feed_sequencer_leader", help, u32::from(is_leader))?;
        let help = "Age of the oldest change that had no number when this server last looked.";
        let lag = Duration::from_micros(self.lag.load(Ordering::Relaxed));
        writer.gauge("muster_feed_sequencer_lag_seconds", help, lag.as_secs_f64())?;
        let help = "Changes that this server has numbered.";
        writer.counter("muster_feed_changes_sequenced", help, self.sequenced.value())?;
        let help = "Attempts of this server to number changes that failed.";
        writer.counter("muster_feed_sequencer_failures", help, self.failures.value())?;
        let help = "Streams of changes that are open.";
        writer.gauge("muster_feed_streams", help, self.streams.value())?;
        let help = "Requests that wait for a change.";
        writer.gauge("muster_feed_waiting_requests", help, self.waiters.value())?;
        let help = "Changes that were sent to streams.";
        writer.counter("muster_feed_events_sent", help, self.events_sent.value())?;
        let help = "Times that a stream read changes again because its client was too slow.";
        writer.counter("muster_feed_streams_behind", help, self.streams_behind.value())?;
        let help = "Streams that were ended because their clients read nothing.";
        writer.counter("muster_feed_streams_closed", help, self.streams_closed.value())
    }
}
