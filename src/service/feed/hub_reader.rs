//! Reads new changes for the subscribers of this server, on its own connection.
//!
//! A poll of the feed reads only narrow rows. Their contents are read only for changes that concern
//! a subscriber. The roles that decide this are known for the changes of this server (`hub_roles`), and
//! are read for the others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::hub::{FeedHub, Subscription};
use super::hub_index::ChangeInterest;
use super::hub_queue::{LiveEvent, RenderEvent};
use crate::domain::{Account, Buin, FeedEvent, FeedFilter};
use crate::repository::Error;
use crate::repository::connections::dedicated_connection::DedicatedConnection;
use crate::repository::feed::{self, ChangeRoles, FeedPosition, LiveChange, LiveChanges};
use crate::service::{self, Caller, Sessions};
use crate::telemetry::cause_chain;

/// The maximum time that a poll waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failed poll.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// The maximum number of changes in a poll.
const MAX_CHANGES: u32 = 1_000;
/// The maximum number of changes whose contents are held at a time.
const MAX_CONTENTS: usize = 64;
/// The maximum number of changes that are read one after the other. If the reader is further behind,
/// each subscriber reads them from the database at its own speed.
const MAX_LAG: u64 = 20_000;

/// Reads the feed from the position at which the last poll ended.
struct HubReader {
    dedicated: DedicatedConnection,
    last: Option<ReaderState>,
}

/// The state after the last poll.
#[derive(Clone, Copy, Debug)]
struct ReaderState {
    position: FeedPosition,
    epoch: Uuid,
    /// The generation of the connection that returned the position. On another connection a promoted
    /// standby may have other changes.
    generation: usize,
}

/// A change, and the roles of the accounts that subscribers name.
type ChangeWithRoles = (LiveChange, ChangeRoles);

impl Sessions {
    /// Subscribes to the changes of the caller's enterprise. Without `render`, the subscription only
    /// wakes its owner.
    ///
    /// # Errors
    /// [`service::Error::TooManyStreams`].
    pub fn subscribe(
        &self,
        caller: &Caller,
        filter: FeedFilter,
        render: Option<RenderEvent>,
    ) -> Result<Subscription, service::Error> {
        self.shared().feed_hub.subscribe(caller.app(), filter, render)
    }

    /// Reads new changes for streams and waiting requests while there are any. Never completes.
    pub async fn run_feed_hub(&self) {
        let shared = self.shared();
        let hub = &shared.feed_hub;
        let dedicated =
            DedicatedConnection::for_polling(&shared.pool, shared.limits, shared.metrics.clone());
        let mut reader = HubReader { dedicated, last: None };
        let mut error_logged = false;
        loop {
            if !hub.has_subscribers() {
                reader.last = None;
                hub.wait_subscribed().await;
            }
            match reader.poll(hub).await {
                Ok(has_more) => {
                    error_logged = false;
                    if !has_more {
                        hub.wait_numbered().await;
                    }
                }
                Err(error) => {
                    if !error_logged {
                        tracing::warn!(
                            error = %cause_chain(&error),
                            "cannot read changes for streams"
                        );
                    }
                    error_logged = true;
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }
}

impl ReaderState {
    /// Whether the reader can read on up to the head of the feed.
    fn continues_to(self, head: Self) -> bool {
        self.generation == head.generation
            && self.epoch == head.epoch
            && self.position.changes_until(head.position).is_some_and(|lag| lag <= MAX_LAG)
    }
}

impl HubReader {
    /// Publishes the changes since the last poll. Returns whether there may be more.
    ///
    /// # Errors
    /// The database fails. The next poll then starts at the current head, and the subscribers read
    /// what is missing.
    async fn poll(&mut self, hub: &Arc<FeedHub>) -> Result<bool, Error> {
        let last = self.last.take();
        let found = self.read_changes(last.map(|last| last.position)).await?;
        let generation = self.dedicated.generation();
        let LiveChanges { epoch, head, changes } = found;
        let at_head = ReaderState { position: head, epoch, generation };
        if !last.is_some_and(|last| last.continues_to(at_head)) {
            // A subscriber that begins to listen after this reads at least up to the head.
            hub.restart();
            self.last = Some(at_head);
            return Ok(false);
        }
        let has_more = changes.len() >= MAX_CHANGES as usize;
        let position = changes.last().map_or(head, |change| change.position);
        self.publish(hub, changes).await?;
        if self.dedicated.generation() != generation {
            return Ok(true);
        }
        self.last = Some(ReaderState { position, epoch, generation });
        Ok(has_more)
    }

    async fn read_changes(&mut self, after: Option<FeedPosition>) -> Result<LiveChanges, Error> {
        let connection = self.dedicated.acquire(Instant::now() + CONNECT_TIMEOUT).await?;
        let needs_writes = self.dedicated.needs_writes();
        let reading = self.dedicated.run(connection, |mut connection| async move {
            let done = async {
                if needs_writes {
                    DedicatedConnection::check_writable(&mut connection).await?;
                }
                feed::live_changes(&mut connection, after, MAX_CHANGES).await
            };
            let done = done.await;
            (connection, done)
        });
        reading.await
    }

    async fn publish(&mut self, hub: &FeedHub, changes: Vec<LiveChange>) -> Result<(), Error> {
        let mut last: HashMap<Buin, LiveChange> = HashMap::new();
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            let part: Vec<LiveChange> = changes.by_ref().take(MAX_CONTENTS).collect();
            last.extend(part.iter().map(|change| (change.buin, change.clone())));
            self.publish_part(hub, part).await?;
        }
        hub.set_last(last.values());
        Ok(())
    }

    async fn publish_part(&mut self, hub: &FeedHub, part: Vec<LiveChange>) -> Result<(), Error> {
        let (mut wanted, mut undecided) = (Vec::new(), Vec::new());
        for change in part {
            match hub.interest(&change) {
                ChangeInterest::Unwanted => {}
                ChangeInterest::Wanted(roles) => wanted.push((change, roles)),
                ChangeInterest::NeedsRoles => undecided.push(change),
            }
        }
        if !undecided.is_empty() {
            let buins: HashSet<Buin> = undecided.iter().map(|change| change.buin).collect();
            let found = self.read_roles(undecided, hub.accounts(&buins)).await?;
            wanted.extend(found.into_iter().filter(|(change, roles)| hub.is_wanted(change, roles)));
            wanted.sort_unstable_by_key(|(change, _)| change.position);
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let events = self.read_events(&wanted).await?;
        for ((change, roles), event) in wanted.iter().zip(events) {
            hub.publish(change, roles, LiveEvent::new(event));
        }
        Ok(())
    }

    async fn read_roles(
        &mut self,
        changes: Vec<LiveChange>,
        accounts: Vec<Account>,
    ) -> Result<Vec<ChangeWithRoles>, Error> {
        let connection = self.dedicated.acquire(Instant::now() + CONNECT_TIMEOUT).await?;
        let (changes, accounts) = (&changes, &accounts);
        let reading = self.dedicated.run(connection, |mut connection| async move {
            let done = feed::roles_at(&mut connection, changes, accounts).await;
            (connection, done)
        });
        let roles = reading.await?;
        Ok(changes.iter().cloned().zip(roles).collect())
    }

    async fn read_events(&mut self, wanted: &[ChangeWithRoles]) -> Result<Vec<FeedEvent>, Error> {
        let connection = self.dedicated.acquire(Instant::now() + CONNECT_TIMEOUT).await?;
        let reading = self.dedicated.run(connection, |mut connection| async move {
            let changes: Vec<&LiveChange> = wanted.iter().map(|(change, _)| change).collect();
            let done = feed::events_of(&mut connection, &changes).await;
            (connection, done)
        });
        reading.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_continues_only_on_the_same_history_and_near_its_head() {
        let at = |position| ReaderState {
            position: FeedPosition::for_tests(position),
            epoch: Uuid::nil(),
            generation: 1,
        };
        let (last, max_lag) = (at(100), i64::try_from(MAX_LAG).unwrap());
        for (head, expected) in [
            (last, true),
            (at(100 + max_lag), true),
            (at(101 + max_lag), false),
            (at(99), false),
            (ReaderState { epoch: Uuid::max(), ..last }, false),
            (ReaderState { generation: 2, ..last }, false),
        ] {
            assert_eq!(last.continues_to(head), expected, "{head:?}");
        }
    }
}
