//! Named consumers: readers of the feed whose position the service keeps.
//!
//! A consumer belongs to the app. Two apps can use one name, and neither disturbs the other. Every key of
//! the app that may read sessions may use and change its consumers: they hold nothing but a position.

use super::cursor::{FeedCursor, FilterDigest, LastMatch};
use super::pages::{FeedStart, cursor_at, ensure_valid, epoch_number};
use crate::domain::{
    Buin, ConsumerLease, ConsumerLimits, ConsumerName, ConsumerState, FeedFilter, FeedSeq,
    ParkedEvent,
};
use crate::repository::consumers::{self, ConsumerPosition, NewConsumer};
use crate::repository::feed::{self, EnterprisePosition};
use crate::repository::{self, Pool};
use crate::service::{Caller, Error, Sessions};
use crate::telemetry::trace_single_statement;

/// A consumer, its members and its parked changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerDetails {
    /// The consumer and its progress.
    pub state: ConsumerState,
    /// Its parked changes, the oldest first, at most [`ConsumerLimits::MAX_LISTED`].
    pub parked: Vec<(ParkedEvent, FeedCursor)>,
}

impl Sessions {
    /// Creates a consumer of the caller's app at `start`. One that exists gets the filter and the lease,
    /// and keeps its position and its events. Returns whether it is new.
    ///
    /// # Errors
    /// [`Error::CursorExpired`], [`Error::TooManyConsumers`], or the database fails.
    pub async fn put_consumer(
        &self,
        caller: &Caller,
        name: &ConsumerName,
        filter: &FeedFilter,
        lease: ConsumerLease,
        start: FeedStart,
    ) -> Result<bool, Error> {
        let (app, pool) = (caller.app(), self.admit(caller).await?);
        let updating = consumers::update(&pool, app, name, filter, lease);
        if trace_single_statement("consumers.update", updating).await? {
            self.announce_act(caller, name);
            return Ok(false);
        }
        let position = resolve(&pool, app.buin, start).await?.ok_or(Error::CursorExpired)?;
        let new = NewConsumer { name, filter, lease, position: &position };
        match consumers::create(&pool, app, new).await? {
            true => Ok(true),
            false => Err(Error::TooManyConsumers { max: ConsumerLimits::MAX_PER_APP }),
        }
    }

    /// The consumers of the caller's app, in the order of their names, without their members.
    ///
    /// # Errors
    /// The database fails.
    pub async fn consumers(&self, caller: &Caller) -> Result<Vec<ConsumerState>, Error> {
        let (app, pool) = (caller.app(), self.admit(caller).await?);
        let listing = consumers::list(&pool, Some(app.buin), Some(&app.app_id));
        let found = trace_single_statement("consumers.list", listing).await?;
        Ok(found.into_iter().map(|(_, _, state)| state).collect())
    }

    /// A consumer of the caller's app.
    ///
    /// # Errors
    /// [`Error::ConsumerNotFound`], or the database fails.
    pub async fn consumer(
        &self,
        caller: &Caller,
        name: &ConsumerName,
    ) -> Result<ConsumerDetails, Error> {
        let (app, pool) = (caller.app(), self.admit(caller).await?);
        let found = consumers::find(&pool, app.buin, &app.app_id, name).await?;
        let mut state = found.ok_or(Error::ConsumerNotFound)?;
        state.members = consumers::members(&pool, app.buin, &app.app_id, name).await?;
        let parked = consumers::parked(&pool, app.buin, &app.app_id, name).await?;
        let checked = feed::check_position(&pool, app.buin, FeedSeq::BEGINNING).await?;
        let epoch = epoch_number(checked.epoch);
        let filter = FilterDigest::for_filter(&state.consumer.filter);
        let with_cursor = |event: ParkedEvent| {
            let fingerprint = FeedCursor::fingerprint(event.session_id, event.version);
            let cursor = cursor_of(epoch, event.seq, fingerprint, filter);
            (event, cursor)
        };
        let parked = parked.into_iter().map(with_cursor).collect();
        Ok(ConsumerDetails { state, parked })
    }

    /// Removes a consumer of the caller's app.
    ///
    /// # Errors
    /// [`Error::ConsumerNotFound`], or the database fails.
    pub async fn remove_consumer(&self, caller: &Caller, name: &ConsumerName) -> Result<(), Error> {
        let (app, pool) = (caller.app(), self.admit(caller).await?);
        if consumers::remove(&pool, app, name).await? {
            self.announce_act(caller, name);
            Ok(())
        } else {
            Err(Error::ConsumerNotFound)
        }
    }

    /// Moves a consumer of the caller's app to `start`. All its events are forgotten: members that have
    /// some cannot acknowledge them any more.
    ///
    /// # Errors
    /// [`Error::ConsumerNotFound`], [`Error::CursorExpired`], or the database fails.
    pub async fn reset_consumer(
        &self,
        caller: &Caller,
        name: &ConsumerName,
        start: FeedStart,
    ) -> Result<(), Error> {
        let (app, pool) = (caller.app(), self.admit(caller).await?);
        let position = resolve(&pool, app.buin, start).await?.ok_or(Error::CursorExpired)?;
        let owner = (app.buin, &app.app_id);
        if consumers::reset(&pool, owner, name, &position, None).await? {
            self.announce_act(caller, name);
            Ok(())
        } else {
            Err(Error::ConsumerNotFound)
        }
    }

    /// Makes parked events of a consumer ready again, or removes them with `discard`. `cursors` selects the
    /// events; `None` stands for all. Returns the number of released events.
    ///
    /// # Errors
    /// [`Error::ConsumerNotFound`], or the database fails.
    pub async fn release_events(
        &self,
        caller: &Caller,
        name: &ConsumerName,
        cursors: Option<&[FeedCursor]>,
        discard: bool,
    ) -> Result<u64, Error> {
        let (app, pool) = (caller.app(), self.admit(caller).await?);
        let seqs: Option<Vec<FeedSeq>> =
            cursors.map(|cursors| cursors.iter().map(|cursor| cursor.seq).collect());
        let owner = (app.buin, &app.app_id);
        let releasing = consumers::release(&pool, owner, name, seqs.as_deref(), discard, None);
        let released = releasing.await?.ok_or(Error::ConsumerNotFound)?;
        self.announce_act(caller, name);
        Ok(released)
    }
}

/// The position of a consumer that begins at `start`; `None` if a cursor belongs to another history.
pub(in crate::service) async fn resolve(
    pool: &Pool,
    buin: Buin,
    start: FeedStart,
) -> Result<Option<ConsumerPosition>, repository::Error> {
    let seq = match start {
        FeedStart::Head | FeedStart::Snapshot | FeedStart::Beginning => FeedSeq::BEGINNING,
        FeedStart::Time(time) => feed::seq_at(pool, buin, time).await?,
        FeedStart::Cursor(cursor) => cursor.seq,
    };
    let checked = feed::check_position(pool, buin, seq).await?;
    let epoch = epoch_number(checked.epoch);
    let cursor = match start {
        FeedStart::Head | FeedStart::Snapshot => cursor_at(checked.head, epoch),
        FeedStart::Beginning | FeedStart::Time(_) => {
            cursor_at(EnterprisePosition { seq, change: checked.change }, epoch)
        }
        FeedStart::Cursor(cursor) if ensure_valid(&cursor, epoch, checked.change).is_err() => {
            return Ok(None);
        }
        FeedStart::Cursor(cursor) => FeedCursor { snapshot: None, ..cursor },
    };
    Ok(Some(ConsumerPosition { seq: cursor.seq, cursor: cursor.encode() }))
}

/// The cursor of an event that the filter of a consumer selects.
pub(super) fn cursor_of(
    epoch: u64,
    seq: FeedSeq,
    fingerprint: [u8; 4],
    filter: FilterDigest,
) -> FeedCursor {
    let last_match = Some(LastMatch { filter, seq });
    FeedCursor { epoch, seq, fingerprint, last_match, snapshot: None }
}
