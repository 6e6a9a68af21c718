//! What is ours and waits for a place.
//!
//! It must not wait long: its lease runs. What does is given back, as if it had never been taken.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::in_flight::App;
use crate::repository::deliveries::{Claimed, Unsent};

/// How long one may wait: a lease lasts half a minute longer than sending can.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Deliveries that were taken, by app, each with the time when it was.
#[derive(Default)]
pub(super) struct Ready {
    queues: HashMap<App, VecDeque<(Claimed, Instant)>>,
}

impl Ready {
    pub(super) fn len(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }

    /// Whether nothing waits: an app that nothing waits for has no queue.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// How many wait for `app`.
    pub(super) fn waiting(&self, app: &App) -> usize {
        self.queues.get(app).map_or(0, VecDeque::len)
    }

    /// The apps that something waits for.
    pub(super) fn apps(&self) -> Vec<App> {
        self.queues.keys().cloned().collect()
    }

    pub(super) fn extend(&mut self, taken: Vec<Claimed>) {
        let now = Instant::now();
        for one in taken {
            let app = (one.buin, one.id.app_id.clone());
            self.queues.entry(app).or_default().push_back((one, now));
        }
    }

    /// The first one for `app`.
    pub(super) fn next(&mut self, app: &App) -> Option<Claimed> {
        let queue = self.queues.get_mut(app)?;
        let (one, _) = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(app);
        }
        Some(one)
    }

    /// What has waited too long for `app`, or all.
    pub(super) fn give_back(&mut self, app: &App, all: bool) -> Vec<Unsent> {
        let Some(queue) = self.queues.get_mut(app) else { return Vec::new() };
        let late = queue.partition_point(|(_, since)| all || since.elapsed() > LONGEST_WAIT);
        let unsent = queue.drain(..late).map(|(one, _)| Unsent::from(one)).collect();
        if queue.is_empty() {
            self.queues.remove(app);
        }
        unsent
    }

    /// Everything.
    pub(super) fn give_back_all(&mut self) -> Vec<Unsent> {
        let queues = std::mem::take(&mut self.queues);
        queues.into_values().flatten().map(|(one, _)| Unsent::from(one)).collect()
    }
}
