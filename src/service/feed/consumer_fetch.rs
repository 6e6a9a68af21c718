//! The members of a consumer fetch events, and acknowledge them.
//!
//! A fetch takes the ready events. If there is nothing, the next changes of the feed are selected
//! with the filter first, until one may be free. The two steps are statements of their own: a server that
//! stops between them leaves events that the next fetch takes.

use super::consumer_waits::ConsumerWait;
use super::consumers::cursor_of;
use super::cursor::{FeedCursor, FilterDigest};
use super::pages::{FeedItem, FeedQuery, FeedStart};
use crate::domain::{
    ConsumerLimits, ConsumerMember, ConsumerName, FeedFilter, FeedSeq, LeasedEvent, quoted,
};
use crate::repository;
use crate::repository::consumers::{
    self, ConsumerClaim, ConsumerPosition, SelectedEvent, Selection,
};
use crate::service::{Caller, Error, Sessions};
use crate::telemetry::trace_single_statement;

/// The maximum number of changes that one step selects.
const MAX_SELECTED: usize = 500;
/// The maximum number of selections of a fetch that find no event. The next fetch continues.
const MAX_STEPS: usize = 8;

/// The result of a fetch.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchedEvents {
    /// The events that the member has now, each with the position after it.
    pub events: Vec<(LeasedEvent, FeedCursor)>,
    /// The filter of the consumer.
    pub filter: FeedFilter,
    /// Why there may be further events that the member did not get.
    pub state: FetchState,
}

/// The state of a consumer after a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchState {
    /// There may be more events: fetch again.
    More,
    /// All changes were read. The other events are with members, or held back.
    CaughtUp,
    /// Too many events are with members, or held back. Changes are read again when there are fewer.
    Full,
}

/// The result of a selection.
enum SelectStep {
    /// A claim may find an event now.
    Ready,
    /// The changes that were read gave no event that a claim may find. There are more.
    NothingReady,
    /// No further change can be selected.
    End(FetchState),
}

impl Sessions {
    /// Takes up to `max` events for a member of a consumer. The member has them for the lease of the
    /// consumer. The result is empty if no event is free.
    ///
    /// # Errors
    /// [`Error::ConsumerNotFound`], [`Error::ConsumerExpired`], or the database fails.
    pub async fn fetch_events(
        &self,
        caller: &Caller,
        name: &ConsumerName,
        member: &ConsumerMember,
        max: usize,
    ) -> Result<FetchedEvents, Error> {
        let mut steps = 0;
        loop {
            let mut claim = self.claim(caller, name, member, max).await?;
            if !claim.events.is_empty() {
                return leased_events(claim);
            }
            loop {
                steps += 1;
                let step = self.select(caller, &mut claim).await?;
                let state = match step {
                    SelectStep::Ready if steps < MAX_STEPS => break,
                    SelectStep::NothingReady if steps < MAX_STEPS => continue,
                    SelectStep::Ready | SelectStep::NothingReady => FetchState::More,
                    SelectStep::End(state) => state,
                };
                return Ok(FetchedEvents { events: Vec::new(), filter: claim.filter, state });
            }
        }
    }

    async fn claim(
        &self,
        caller: &Caller,
        name: &ConsumerName,
        member: &ConsumerMember,
        max: usize,
    ) -> Result<ConsumerClaim, Error> {
        let pool = self.admit(caller).await?;
        let claiming = consumers::claim(&pool, caller.app(), name, member, max);
        let claim = trace_single_statement("consumers.claim", claiming).await?;
        let claim = claim.ok_or(Error::ConsumerNotFound)?;
        if !claim.is_current {
            return Err(Error::ConsumerExpired);
        }
        if claim.is_use_old {
            let touching = consumers::touch(&pool, claim.consumer_id);
            trace_single_statement("consumers.touch", touching).await?;
        }
        Ok(claim)
    }

    /// Selects the next changes for a consumer without free events. `claim` then has the next position.
    async fn select(
        &self,
        caller: &Caller,
        claim: &mut ConsumerClaim,
    ) -> Result<SelectStep, Error> {
        let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let room = ConsumerLimits::MAX_ACTIVE.saturating_sub(count(claim.active));
        if room == 0 || count(claim.held_back) >= ConsumerLimits::MAX_HELD_BACK {
            return Ok(SelectStep::End(FetchState::Full));
        }
        let query = FeedQuery {
            start: FeedStart::Cursor(position_cursor(&claim.position)?),
            filter: claim.filter.clone(),
            limit: room.min(MAX_SELECTED),
            include_session: false,
        };
        let page = self.feed_page(caller, query).await.map_err(|error| match error {
            Error::CursorExpired => Error::ConsumerExpired,
            error => error,
        })?;
        if page.next.seq <= claim.position.seq {
            return Ok(SelectStep::End(FetchState::CaughtUp));
        }
        let position = ConsumerPosition { seq: page.next.seq, cursor: page.next.encode() };
        let events: Vec<_> = page.events.iter().map(SelectedEvent::from).collect();
        let pool = self.admit(caller).await?;
        let from = claim.position.seq;
        let selecting = consumers::select(&pool, claim.consumer_id, from, &position, &events);
        let selection = trace_single_statement("consumers.select", selecting).await?;
        // Another request was faster if nothing was selected: a claim reads what it left.
        let Some(Selection { ready, held_back }) = selection else { return Ok(SelectStep::Ready) };
        claim.position = position;
        claim.held_back += held_back;
        Ok(match ready {
            1.. => SelectStep::Ready,
            0 if page.caught_up => SelectStep::End(FetchState::CaughtUp),
            0 => SelectStep::NothingReady,
        })
    }

    /// Permits a fetch of the caller's app to wait, until the result is dropped.
    ///
    /// # Errors
    /// [`Error::TooManyWaits`].
    pub fn begin_wait(&self, caller: &Caller, name: &ConsumerName) -> Result<ConsumerWait, Error> {
        self.shared().consumer_waits.begin(caller.app(), name)
    }

    /// Makes a wait listen to what may give its fetch an event: changes that match `filter`, and acts of
    /// other requests. An event that is there already is found by the next [`Self::check_for_events`].
    ///
    /// # Errors
    /// [`Error::TooManyStreams`].
    pub fn listen_for_events(
        &self,
        caller: &Caller,
        wait: &mut ConsumerWait,
        filter: &FeedFilter,
    ) -> Result<(), Error> {
        wait.listen(&self.shared().feed_hub, caller.app(), filter)
    }

    /// Checks whether a fetch may find an event, with one statement that changes nothing. If it may not, the
    /// wait goes on with [`ConsumerWait::woken`].
    ///
    /// # Errors
    /// The database fails.
    pub async fn check_for_events(
        &self,
        caller: &Caller,
        wait: &mut ConsumerWait,
    ) -> Result<bool, Error> {
        let pool = self.admit(caller).await?;
        let checking = consumers::check_availability(&pool, caller.app(), wait.consumer());
        let found = trace_single_statement("consumers.availability", checking).await?;
        drop(pool);
        wait.set_free_in(found.free_in);
        if found.is_claimable {
            wait.pace_fetch().await;
        }
        Ok(found.is_claimable)
    }

    /// Wakes the fetches of this server that wait for events of a consumer.
    pub(super) fn announce_act(&self, caller: &Caller, name: &ConsumerName) {
        self.shared().consumer_waits.announce(caller.app(), name);
    }

    /// Ends the work on events: they are not handed out again. Returns those that the member does not have:
    /// its lease has ended, and they are with another member or parked. An event that no member has any more is
    /// done, so an acknowledgement can be repeated.
    ///
    /// # Errors
    /// [`Error::ConsumerNotFound`], [`Error::ConsumerExpired`] if the consumer or a cursor belongs to another
    /// history, or the database fails.
    pub async fn acknowledge_events(
        &self,
        caller: &Caller,
        name: &ConsumerName,
        member: &ConsumerMember,
        cursors: &[FeedCursor],
    ) -> Result<Vec<FeedCursor>, Error> {
        let (app, pool) = (caller.app(), self.admit(caller).await?);
        let epoch = cursors.first().map(|cursor| cursor.epoch);
        if cursors.iter().any(|cursor| Some(cursor.epoch) != epoch) {
            return Err(Error::ConsumerExpired);
        }
        let seqs: Vec<FeedSeq> = cursors.iter().map(|cursor| cursor.seq).collect();
        let acknowledging = consumers::acknowledge(&pool, app, name, member, epoch, &seqs);
        let done = trace_single_statement("consumers.acknowledge", acknowledging).await?;
        let done = done.ok_or(Error::ConsumerNotFound)?;
        if !done.is_current {
            return Err(Error::ConsumerExpired);
        }
        // Later events of the same sessions are free.
        self.announce_act(caller, name);
        let is_lost = |cursor: &&FeedCursor| done.lost.contains(&cursor.seq.get());
        Ok(cursors.iter().filter(is_lost).copied().collect())
    }
}

/// The result of a fetch whose claim has taken events.
fn leased_events(claim: ConsumerClaim) -> Result<FetchedEvents, Error> {
    let epoch = position_cursor(&claim.position)?.epoch;
    let digest = FilterDigest::for_filter(&claim.filter);
    let with_cursor = |leased: LeasedEvent| {
        let fingerprint = FeedCursor::fingerprint(leased.session_id, leased.event.version);
        let cursor = cursor_of(epoch, leased.seq, fingerprint, digest);
        (leased, cursor)
    };
    let events = claim.events.into_iter().map(with_cursor).collect();
    Ok(FetchedEvents { events, filter: claim.filter, state: FetchState::More })
}

/// The stored position as a cursor.
fn position_cursor(position: &ConsumerPosition) -> Result<FeedCursor, Error> {
    FeedCursor::decode(&position.cursor).map_err(|error| {
        let value = quoted(&position.cursor);
        let (table, column, reason) = ("consumer_position", "cursor", error.to_string());
        repository::Error::Corrupt { table, column, value, reason }.into()
    })
}

impl From<&FeedItem> for SelectedEvent {
    fn from(item: &FeedItem) -> Self {
        Self {
            seq: item.event.seq,
            prev_seq: item.prev_seq,
            session_id: item.event.session_id,
            version: item.event.event.version,
        }
    }
}
