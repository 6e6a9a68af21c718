//! Gives new changes to the streams and waiting requests of this server.
//!
//! One reader reads the changes for all of them (`hub_reader`), only while there are any. Each change
//! is read and rendered once, however many streams it concerns.
//!
//! A subscriber begins to listen first, and then reads the database up to the present. So each change
//! is in the part that it reads, or in its queue, or in both, which its number shows. The reader
//! declares all subscribers behind whenever it may have missed a change, and they read again.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::hub_index::{ChangeInterest, LastChange, Subscriber, SubscriberIndex};
use super::hub_queue::{EventQueue, LiveEvent, RenderEvent, StreamUpdate};
use super::hub_roles::{SubscriberId, WrittenChange};
use crate::domain::{Account, App, AppId, Buin, FeedFilter};
use crate::metrics::Metrics;
use crate::repository::feed::{ChangeRoles, LiveChange};
use crate::service::error::Error;

/// The interval between two polls of the feed while another server numbers the changes.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The interval between two polls while this server numbers the changes itself. The sequencer then wakes
/// the reader after each number, so the interval matters only when another server becomes the leader.
const WOKEN_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The limits of streams and waiting requests on a server.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Those of an app.
    pub max_per_app: usize,
    /// Those of an enterprise.
    pub max_per_enterprise: usize,
}

/// The subscribers of this server.
pub(in crate::service) struct FeedHub {
    limits: StreamLimits,
    state: Mutex<HubState>,
    subscribed: Notify,
    numbered: Notify,
    /// Whether this server numbers the changes.
    is_leader: AtomicBool,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct HubState {
    next_id: SubscriberId,
    enterprises: HashMap<Buin, SubscriberIndex>,
}

/// Changes for one stream or waiting request, until it is dropped.
pub struct Subscription {
    hub: Arc<FeedHub>,
    buin: Buin,
    id: SubscriberId,
    queue: Arc<EventQueue>,
    last: Arc<LastChange>,
}

impl FeedHub {
    pub(in crate::service) fn new(limits: StreamLimits, metrics: Arc<Metrics>) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            subscribed: Notify::new(),
            numbered: Notify::new(),
            is_leader: AtomicBool::new(false),
            metrics,
        }
    }

    /// Subscribes to the changes of an app's enterprise. A subscription without `render` only wakes.
    ///
    /// # Errors
    /// [`Error::TooManyStreams`].
    pub(in crate::service) fn subscribe(
        self: &Arc<Self>,
        app: &App,
        filter: FeedFilter,
        render: Option<RenderEvent>,
    ) -> Result<Subscription, Error> {
        let queue = Arc::new(EventQueue::new(render));
        let subscriber = Subscriber { app: app.app_id.clone(), filter, queue: queue.clone() };
        let (id, last) = {
            let mut state = self.lock();
            self.check_limits(state.enterprises.get(&app.buin), &app.app_id)?;
            state.next_id += 1;
            let id = state.next_id;
            let index = state.enterprises.entry(app.buin).or_default();
            index.insert(id, subscriber);
            (id, index.last.clone())
        };
        self.metrics.feed.subscriptions(render.is_some()).add(1);
        self.subscribed.notify_one();
        Ok(Subscription { hub: self.clone(), buin: app.buin, id, queue, last })
    }

    fn check_limits(&self, index: Option<&SubscriberIndex>, app: &AppId) -> Result<(), Error> {
        let Some(index) = index else { return Ok(()) };
        let StreamLimits { max_per_app, max_per_enterprise } = self.limits;
        if index.len_of(app) >= max_per_app {
            return Err(Error::TooManyStreams { max: max_per_app, owner: "app" });
        }
        if index.len() >= max_per_enterprise {
            return Err(Error::TooManyStreams { max: max_per_enterprise, owner: "enterprise" });
        }
        Ok(())
    }

    fn unsubscribe(&self, buin: Buin, id: SubscriberId) {
        let mut state = self.lock();
        if let Some(index) = state.enterprises.get_mut(&buin) {
            index.remove(id);
            if index.len() == 0 {
                state.enterprises.remove(&buin);
            }
        }
    }

    /// Wakes the reader: this server has numbered changes.
    pub(super) fn wake(&self) {
        self.numbered.notify_one();
    }

    /// Records whether this server numbers the changes.
    pub(super) fn set_leader(&self, is_leader: bool) {
        self.is_leader.store(is_leader, Ordering::Relaxed);
    }

    /// Waits until there is a subscriber.
    pub(super) async fn wait_subscribed(&self) {
        while !self.has_subscribers() {
            self.subscribed.notified().await;
        }
    }

    /// Waits until there may be new changes.
    pub(super) async fn wait_numbered(&self) {
        let is_woken = self.is_leader.load(Ordering::Relaxed);
        let interval = if is_woken { WOKEN_POLL_INTERVAL } else { POLL_INTERVAL };
        let _ = timeout(interval, self.numbered.notified()).await;
    }

    pub(super) fn has_subscribers(&self) -> bool {
        !self.lock().enterprises.is_empty()
    }

    /// Declares all subscribers behind: changes may have been missed.
    pub(super) fn restart(&self) {
        for index in self.lock().enterprises.values_mut() {
            // The database may have gone back to an earlier state.
            index.clear_roles();
            index.set_last(None);
            index.subscribers().for_each(|subscriber| subscriber.queue.set_behind());
        }
    }

    /// Records changes that this server has written, before the reader reads them.
    pub(in crate::service) fn record_written<'a>(
        &self,
        changes: impl Iterator<Item = WrittenChange<'a>>,
    ) {
        let mut state = self.lock();
        if state.enterprises.is_empty() {
            return;
        }
        for change in changes {
            if let Some(index) = state.enterprises.get_mut(&change.after.buin) {
                index.record_roles(&change);
            }
        }
    }

    /// Whether a change concerns a subscriber, as far as that is known here.
    pub(super) fn interest(&self, change: &LiveChange) -> ChangeInterest {
        let mut state = self.lock();
        let index = state.enterprises.get_mut(&change.buin);
        index.map(|index| index.interest(change)).unwrap_or_default()
    }

    /// The accounts that subscribers of these enterprises name. Enterprises may share some.
    pub(super) fn accounts(&self, buins: &HashSet<Buin>) -> Vec<Account> {
        let state = self.lock();
        let indexes = buins.iter().filter_map(|buin| state.enterprises.get(buin));
        indexes.flat_map(|index| index.accounts().cloned()).collect()
    }

    /// Whether a change concerns a subscriber.
    pub(super) fn is_wanted(&self, change: &LiveChange, roles: &ChangeRoles) -> bool {
        let state = self.lock();
        state.enterprises.get(&change.buin).is_some_and(|index| index.is_wanted(change, roles))
    }

    /// Gives a change to the subscribers that it concerns.
    pub(super) fn publish(&self, change: &LiveChange, roles: &ChangeRoles, event: LiveEvent) {
        let state = self.lock();
        let Some(index) = state.enterprises.get(&change.buin) else { return };
        let outcome = index.publish(change, roles, &Arc::new(event));
        self.metrics.feed.streams_behind.add(outcome.fell_behind);
        self.metrics.feed.streams_closed.add(outcome.closed);
    }

    /// Records that all changes of these enterprises up to these ones were published.
    pub(super) fn set_last<'a>(&self, changes: impl Iterator<Item = &'a LiveChange>) {
        let state = self.lock();
        for change in changes {
            if let Some(index) = state.enterprises.get(&change.buin) {
                index.set_last(Some(change));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HubState> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// Begins to listen: each change that is numbered from now on is received by [`Self::next`], or
    /// that reports that the subscriber is behind. Earlier changes are in the database.
    pub fn listen(&self) {
        self.queue.listen();
    }

    /// Waits for changes.
    pub async fn next(&self) -> StreamUpdate {
        self.queue.next().await
    }

    /// Counts changes that were sent to the client.
    pub fn count_sent(&self, events: usize) {
        self.hub.metrics.feed.events_sent.add(u64::try_from(events).unwrap_or_default());
    }

    /// Records whether the client waits for more, or has not read all that was sent.
    pub fn set_client_ready(&self, is_client_ready: bool) {
        self.queue.set_client_ready(is_client_ready);
    }

    /// The last change of the enterprise, if every change up to it that concerns the subscriber was
    /// taken.
    pub(super) fn settled(&self) -> Option<LiveChange> {
        // The last change is read first, so that the queue already has the changes up to it.
        let last = self.last.get();
        last.filter(|_| self.queue.is_drained())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.unsubscribe(self.buin, self.id);
        self.hub.metrics.feed.subscriptions(self.queue.is_stream()).add(-1);
    }
}
