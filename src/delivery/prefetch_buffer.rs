//! Claimed deliveries that wait for a slot.
//!
//! A delivery must not wait long, because its lease runs. A delivery that waits too long is
//! released, as if it had never been claimed.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::in_flight::AppKey;
use crate::repository::deliveries::{ClaimedDelivery, ReleasedDelivery};

/// The longest wait: a lease lasts half a minute longer than sending can take.
const MAX_BUFFER_AGE: Duration = Duration::from_secs(5);

/// Claimed deliveries by app, each with the time of its claim.
#[derive(Default)]
pub(super) struct PrefetchBuffer {
    queues: HashMap<AppKey, VecDeque<(ClaimedDelivery, Instant)>>,
}

impl PrefetchBuffer {
    pub(super) fn len(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }

    /// Whether no delivery waits: an app without waiting deliveries has no queue.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The number of deliveries that wait for `app`.
    pub(super) fn len_for(&self, app: &AppKey) -> usize {
        self.queues.get(app).map_or(0, VecDeque::len)
    }

    /// The apps with waiting deliveries.
    pub(super) fn apps(&self) -> Vec<AppKey> {
        self.queues.keys().cloned().collect()
    }

    pub(super) fn push_all(&mut self, claimed: Vec<ClaimedDelivery>) {
        let now = Instant::now();
        for delivery in claimed {
            let app = (delivery.buin, delivery.id.app_id.clone());
            self.queues.entry(app).or_default().push_back((delivery, now));
        }
    }

    /// Takes the first delivery for `app`.
    pub(super) fn pop(&mut self, app: &AppKey) -> Option<ClaimedDelivery> {
        let queue = self.queues.get_mut(app)?;
        let (delivery, _) = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(app);
        }
        Some(delivery)
    }

    /// Takes the deliveries for `app` that have waited too long, or all of them.
    pub(super) fn take_expired(&mut self, app: &AppKey, all: bool) -> Vec<ReleasedDelivery> {
        let Some(queue) = self.queues.get_mut(app) else { return Vec::new() };
        let expired =
            queue.partition_point(|(_, claimed_at)| all || claimed_at.elapsed() > MAX_BUFFER_AGE);
        let released =
            queue.drain(..expired).map(|(delivery, _)| ReleasedDelivery::from(delivery)).collect();
        if queue.is_empty() {
            self.queues.remove(app);
        }
        released
    }

    /// Takes all deliveries.
    pub(super) fn drain(&mut self) -> Vec<ReleasedDelivery> {
        let queues = std::mem::take(&mut self.queues);
        queues
            .into_values()
            .flatten()
            .map(|(delivery, _)| ReleasedDelivery::from(delivery))
            .collect()
    }
}
