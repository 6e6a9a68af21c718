//! Fetches of consumers that wait: they are woken, and their number is bounded.
//!
//! New changes come from the hub, and the acts of other requests of this server on the same consumer are
//! announced here. The acts of other servers are not: a waiting fetch checks the database now and then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::hub::{FeedHub, Subscription};
use crate::domain::{App, AppId, Buin, ConsumerName, FeedFilter};
use crate::service::Error;
use crate::service::owner_permits::{OwnerPermit, OwnerPermits};

/// The maximum number of fetches of an app that wait on a server.
const MAX_WAITS_PER_APP: usize = 100;
/// The interval between two checks if no event of the consumer is leased. It covers resets, releases and
/// other filters that come through another server or the command line.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);
/// The interval between two checks if events are leased. It covers acknowledgements through another
/// server.
const BUSY_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest interval between two checks, and between two fetches, after the first one.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// The fetches that wait.
#[derive(Default)]
pub(in crate::service) struct ConsumerWaits {
    permits: OwnerPermits<(Buin, AppId)>,
    /// The consumers for which fetches wait.
    awaited: Arc<Mutex<HashMap<ConsumerKey, watch::Sender<()>>>>,
}

type ConsumerKey = (Buin, AppId, ConsumerName);

/// A fetch that may wait until this is dropped.
pub struct ConsumerWait {
    key: ConsumerKey,
    awaited: Arc<Mutex<HashMap<ConsumerKey, watch::Sender<()>>>>,
    /// Receives the acts of other requests. `None` only while it is dropped.
    acts: Option<watch::Receiver<()>>,
    changes: Option<(FeedFilter, Subscription)>,
    /// The time after the last check after which events are free because a lease ends; `None` if no event
    /// was leased.
    free_in: Option<Duration>,
    /// The time before which no further check is made.
    not_before: Option<Instant>,
    /// The time before which no further fetch is made.
    no_fetch_before: Option<Instant>,
    _permit: OwnerPermit<(Buin, AppId)>,
}

impl ConsumerWaits {
    /// Counts a fetch of an app as waiting.
    ///
    /// # Errors
    /// [`Error::TooManyWaits`]. Nothing is counted.
    pub(super) fn begin(&self, app: &App, name: &ConsumerName) -> Result<ConsumerWait, Error> {
        let taken = self.permits.acquire((app.buin, app.app_id.clone()), MAX_WAITS_PER_APP, None);
        let permit = taken.map_err(|_| Error::TooManyWaits { max: MAX_WAITS_PER_APP })?;
        let (key, awaited) = (consumer_key(app, name), self.awaited.clone());
        let acts = {
            // No code panics while it holds the lock.
            let mut awaited = awaited.lock().unwrap_or_else(PoisonError::into_inner);
            awaited.entry(key.clone()).or_insert_with(|| watch::Sender::new(())).subscribe()
        };
        Ok(ConsumerWait {
            key,
            awaited,
            acts: Some(acts),
            changes: None,
            free_in: None,
            not_before: None,
            no_fetch_before: None,
            _permit: permit,
        })
    }

    /// Wakes the fetches that wait for events of a consumer: some may have become free.
    pub(super) fn announce(&self, app: &App, name: &ConsumerName) {
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(acts) = awaited.get(&consumer_key(app, name)) {
            acts.send_replace(());
        }
    }
}

impl ConsumerWait {
    /// Begins to listen: every change that matches the filter, and every act of another request from now on
    /// ends [`Self::woken`]. Earlier events are in the database.
    ///
    /// # Errors
    /// [`Error::TooManyStreams`].
    pub(super) fn listen(
        &mut self,
        hub: &Arc<FeedHub>,
        app: &App,
        filter: &FeedFilter,
    ) -> Result<(), Error> {
        // The slot of another subscription is free before a new one is taken.
        let known = self.changes.take().filter(|(known, _)| known == filter);
        let subscription = match known {
            Some((_, subscription)) => subscription,
            None => hub.subscribe(app, filter.clone(), None)?,
        };
        self.changes = Some((filter.clone(), subscription));
        self.listen_again();
        Ok(())
    }

    fn listen_again(&mut self) {
        if let Some((_, subscription)) = &self.changes {
            subscription.listen();
        }
        if let Some(acts) = &mut self.acts {
            acts.mark_unchanged();
        }
    }

    /// The name of the consumer.
    pub(super) fn consumer(&self) -> &ConsumerName {
        &self.key.2
    }

    /// Records when a lease ends, as the last check has found it.
    pub(super) fn set_free_in(&mut self, free_in: Option<Duration>) {
        self.free_in = free_in;
    }

    /// Waits until another fetch may be made. A fetch can find nothing although an event seemed free: another
    /// member takes it at this moment.
    pub(super) async fn pace_fetch(&mut self) {
        if let Some(not_before) = self.no_fetch_before {
            sleep_until(not_before).await;
        }
        self.no_fetch_before = Some(Instant::now() + MIN_INTERVAL);
    }

    /// Waits until another check of the consumer may find an event, and listens again.
    pub async fn woken(&mut self) {
        let interval = self.free_in.map_or(IDLE_INTERVAL, |free_in| free_in.min(BUSY_INTERVAL));
        let changed = async {
            match &self.changes {
                Some((_, subscription)) => _ = subscription.next().await,
                None => std::future::pending().await,
            }
        };
        let acted = async {
            match &mut self.acts {
                // An error cannot come: the sender lives as long as a receiver.
                Some(acts) => _ = acts.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed => {}
            () = acted => {}
            () = sleep(interval.max(MIN_INTERVAL)) => {}
        }
        if let Some(not_before) = self.not_before {
            sleep_until(not_before).await;
        }
        self.not_before = Some(Instant::now() + MIN_INTERVAL);
        self.listen_again();
    }
}

impl Drop for ConsumerWait {
    fn drop(&mut self) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        self.acts = None;
        if awaited.get(&self.key).is_some_and(|acts| acts.receiver_count() == 0) {
            awaited.remove(&self.key);
        }
    }
}

fn consumer_key(app: &App, name: &ConsumerName) -> ConsumerKey {
    (app.buin, app.app_id.clone(), name.clone())
}

#[cfg(test)]
mod tests {
    use super::super::hub::StreamLimits;
    use super::*;
    use crate::domain::EventKind;
    use crate::domain::{AllowedForms, Permissions};

    fn app(id: &str) -> App {
        App {
            buin: Buin::new(1).unwrap(),
            app_id: id.parse().unwrap(),
            name: String::new(),
            permissions: Permissions::default(),
            forms: AllowedForms::default(),
            callback: None,
            callbacks_paused: false,
            disabled: false,
        }
    }

    #[test]
    fn waits_are_bounded_for_each_app() {
        let waits = ConsumerWaits::default();
        let begin = |app_id| waits.begin(&app(app_id), &name("mirror"));
        let mut held: Vec<_> = (0..MAX_WAITS_PER_APP).map(|_| begin("a").unwrap()).collect();
        assert!(matches!(begin("a").err(), Some(Error::TooManyWaits { max: 100 })));
        held.push(begin("b").unwrap());
        held.remove(0);
        held.push(begin("a").unwrap());
        drop(held);
        assert!(waits.permits.is_unused());
        assert!(
            waits.awaited.lock().unwrap().is_empty(),
            "a consumer without a waiting fetch is forgotten"
        );
    }

    fn name(text: &str) -> ConsumerName {
        text.parse().unwrap()
    }

    fn hub() -> Arc<FeedHub> {
        let limits = StreamLimits { max_per_app: 1, max_per_enterprise: 1 };
        Arc::new(FeedHub::new(limits, Arc::default()))
    }

    /// The time that a wait takes.
    async fn duration(wait: &mut ConsumerWait, free_in: Option<Duration>) -> Duration {
        let begun = Instant::now();
        wait.set_free_in(free_in);
        wait.woken().await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn interval_of_checks_depends_on_leased_events() {
        let (waits, hub) = (ConsumerWaits::default(), hub());
        let mut wait = waits.begin(&app("a"), &name("mirror")).unwrap();
        wait.listen(&hub, &app("a"), &FeedFilter::default()).unwrap();
        let minute = Duration::from_secs(60);
        let short = Duration::from_millis(300);
        for (free_in, expected) in [
            (None, IDLE_INTERVAL),
            (Some(minute), BUSY_INTERVAL),
            (Some(short), short),
            (Some(Duration::ZERO), MIN_INTERVAL),
        ] {
            // A timer has a resolution of a millisecond.
            let found = duration(&mut wait, free_in).await;
            assert!((expected..expected + Duration::from_millis(2)).contains(&found), "{found:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn wait_is_woken_by_changes_and_by_acts_on_its_consumer() {
        let (waits, hub) = (ConsumerWaits::default(), hub());
        let mut wait = waits.begin(&app("a"), &name("mirror")).unwrap();
        wait.listen(&hub, &app("a"), &FeedFilter::default()).unwrap();
        waits.announce(&app("a"), &name("mirror"));
        assert_eq!(duration(&mut wait, None).await, Duration::ZERO);
        // A further check is not made at once, so that many acts cost few checks.
        hub.restart();
        let found = duration(&mut wait, None).await;
        assert!(found <= MIN_INTERVAL + Duration::from_millis(1) && !found.is_zero(), "{found:?}");
        for (app_id, consumer) in [("a", "other"), ("b", "mirror")] {
            waits.announce(&app(app_id), &name(consumer));
            assert!(duration(&mut wait, None).await >= IDLE_INTERVAL, "{app_id} {consumer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn empty_fetches_are_paced() {
        let waits = ConsumerWaits::default();
        let mut wait = waits.begin(&app("a"), &name("mirror")).unwrap();
        let begun = Instant::now();
        wait.pace_fetch().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        wait.pace_fetch().await;
        assert!(begun.elapsed() >= MIN_INTERVAL);
    }

    #[test]
    fn wait_needs_a_slot_among_streams_and_gives_it_back() {
        let (waits, hub) = (ConsumerWaits::default(), hub());
        let mut wait = waits.begin(&app("a"), &name("mirror")).unwrap();
        let mut second = waits.begin(&app("a"), &name("mirror")).unwrap();
        let filter = FeedFilter::default();
        wait.listen(&hub, &app("a"), &filter).unwrap();
        assert!(matches!(
            second.listen(&hub, &app("a"), &filter),
            Err(Error::TooManyStreams { max: 1, .. })
        ));
        // Another filter needs another subscription, in the same slot.
        let other = FeedFilter { kind: Some(EventKind::Created), ..FeedFilter::default() };
        wait.listen(&hub, &app("a"), &other).unwrap();
        drop(wait);
        second.listen(&hub, &app("a"), &filter).unwrap();
    }
}
