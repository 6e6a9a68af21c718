//! Earlier versions of sessions, their events, and differences between versions.
//!
//! [`Sessions::replay_history`] is the only reader of past versions. It starts at the nearest
//! snapshot and reads events in steps, so it holds one version and one step at a time. The surprise:
//! this reader also writes the snapshots. The first reader of a long history passes over all of it,
//! and leaves a snapshot behind whenever it has read enough events. Later readers, and this one if it
//! is interrupted and called again, start there.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::{Caller, Error, Sessions};
use crate::domain::{Buin, Changes, Event, Replay, Session, SessionId, Version};
use crate::repository::commit_horizon::CommitHorizon;
use crate::repository::history::{self, HistoryRange, UpTo};
use crate::repository::{self, Pool};
use crate::telemetry::trace_single_statement;

/// The maximum time that a read waits for the changes up to its time.
const MAX_SETTLE_WAIT: Duration = Duration::from_secs(1);
/// The pause between two reads of the running changes.
const SETTLE_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The maximum number of events of a page or of a step of a replay.
const MAX_STEP_EVENTS: usize = 512;
/// The maximum size of the changes of a step of a replay, in bytes of JSON. One event may exceed it.
const MAX_STEP_BYTES: usize = 256 * 1024;
/// The maximum size of the changes of a page, in bytes of JSON. One event may exceed it.
const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// The cost of reading an event beside its changes, in bytes.
const EVENT_COST: usize = 512;
/// A snapshot is written if the events since the one before cost this much, and at least
/// [`SNAPSHOT_FACTOR`] times the size of the snapshot.
const MIN_SNAPSHOT_DISTANCE: usize = 256 * 1024;
/// Snapshots take at most this part of the size of the history.
const SNAPSHOT_FACTOR: usize = 4;

/// A session at two of its versions, and the difference.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionDiff {
    /// The session at the first version.
    pub from: Session,
    /// The session at the second version.
    pub to: Session,
    /// The changes that turn `from` into `to`.
    pub changes: Changes,
}

/// Selects a page of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// The version next to the page, not included in it. `None`: the page starts at the first
    /// version, or at the last one if `newest_first` is set.
    pub after: Option<Version>,
    /// Whether the newest event comes first.
    pub newest_first: bool,
    /// The maximum number of events.
    pub limit: usize,
}

/// A page of a history. It is shorter than requested if its events are large.
#[derive(Clone, Debug, PartialEq)]
pub struct EventsPage {
    /// The events, in order.
    pub events: Vec<Event>,
    /// Whether more events follow.
    pub has_more: bool,
}

impl Sessions {
    /// The session at one of its versions.
    ///
    /// # Errors
    /// [`Error::SessionNotFound`], [`Error::VersionNotFound`], or the database fails.
    pub async fn at_version(
        &self,
        caller: &Caller,
        id: SessionId,
        version: Version,
    ) -> Result<Session, Error> {
        let pool = self.admit(caller).await?;
        let deadline = self.shared().deadline_for(caller);
        self.version_of(&pool, caller.app().buin, id, version, deadline).await
    }

    /// The session at a point in time. The result is the same whenever it is asked for: a time at
    /// which a change may still be committed is awaited for up to a second, and then refused.
    ///
    /// # Errors
    /// [`Error::SessionNotFound`], [`Error::VersionNotFound`] if the session was created later,
    /// [`Error::TimeNotSettled`], or the database fails.
    pub async fn at_time(
        &self,
        caller: &Caller,
        id: SessionId,
        at: DateTime<Utc>,
    ) -> Result<Session, Error> {
        self.await_settled(caller, id, at).await?;
        let found = {
            let pool = self.admit(caller).await?;
            let deadline = self.shared().deadline_for(caller);
            self.replay_history(&pool, caller.app().buin, id, UpTo::Time(at), deadline).await?
        };
        match found {
            Some(session) => Ok(session),
            None => {
                self.get_uncached(caller, id).await?;
                Err(Error::VersionNotFound)
            }
        }
    }

    /// A page of the session's history.
    ///
    /// # Errors
    /// [`Error::SessionNotFound`], or the database fails.
    pub async fn events(
        &self,
        caller: &Caller,
        id: SessionId,
        page: HistoryPage,
    ) -> Result<EventsPage, Error> {
        let HistoryPage { after, newest_first, limit } = page;
        let range = HistoryRange {
            after,
            up_to: UpTo::End,
            newest_first,
            max_events: limit,
            max_bytes: MAX_PAGE_BYTES,
        };
        let part = {
            let pool = self.admit(caller).await?;
            let reading = history::read_events(&pool, caller.app().buin, id, range);
            trace_single_statement("history.events", reading).await?
        };
        let metrics = &self.shared().metrics.history;
        metrics.events_read.add(part.events.len() as u64);
        metrics.bytes_read.add(part.bytes as u64);
        if part.events.is_empty() {
            self.get_uncached(caller, id).await?;
        }
        Ok(EventsPage { events: part.events, has_more: part.has_more })
    }

    /// The difference between two versions. `from` may be the later one.
    ///
    /// # Errors
    /// [`Error::SessionNotFound`], [`Error::VersionNotFound`], or the database fails.
    pub async fn diff(
        &self,
        caller: &Caller,
        id: SessionId,
        from: Version,
        to: Version,
    ) -> Result<SessionDiff, Error> {
        let pool = self.admit(caller).await?;
        let (buin, deadline) = (caller.app().buin, self.shared().deadline_for(caller));
        let from = self.version_of(&pool, buin, id, from, deadline).await?;
        let to = self.version_of(&pool, buin, id, to, deadline).await?;
        let changes = from.changes_to(&to);
        Ok(SessionDiff { from, to, changes })
    }

    /// Waits until every change up to `at` is committed.
    async fn await_settled(
        &self,
        caller: &Caller,
        id: SessionId,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let give_up_at = Instant::now() + MAX_SETTLE_WAIT;
        loop {
            let fixed_time = self.shared().clock.fixed_time();
            let pool = self.admit(caller).await?;
            let reading = CommitHorizon::read(&*pool, fixed_time);
            let horizon = trace_single_statement("sessions.horizon", reading).await?;
            if at <= horizon.settled_until {
                return Ok(());
            }
            if at > horizon.now + MAX_SETTLE_WAIT || Instant::now() >= give_up_at {
                self.get_uncached(caller, id).await?;
                let settled_until = horizon.settled_until;
                return Err(Error::TimeNotSettled { settled_until, at });
            }
            drop(pool);
            tokio::time::sleep(SETTLE_POLL_INTERVAL).await;
        }
    }

    /// The session at one of its versions, for a caller that holds `pool`.
    ///
    /// # Errors
    /// Those of [`Self::at_version`].
    pub(super) async fn version_of(
        &self,
        pool: &Pool,
        buin: Buin,
        id: SessionId,
        version: Version,
        deadline: Instant,
    ) -> Result<Session, Error> {
        match self.replay_history(pool, buin, id, UpTo::Version(version), deadline).await? {
            None => Err(Error::SessionNotFound),
            Some(session) if session.version == version => Ok(session),
            Some(_) => Err(Error::VersionNotFound),
        }
    }

    /// The session after a part of its history; `None` if the part has no event. No step starts
    /// after `deadline`, but the steps before it have left their snapshots.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the deadline passes, or the database fails.
    async fn replay_history(
        &self,
        pool: &Pool,
        buin: Buin,
        id: SessionId,
        up_to: UpTo,
        deadline: Instant,
    ) -> Result<Option<Session>, Error> {
        let start = match up_to {
            // The creation has no snapshot.
            UpTo::Version(Version::FIRST) => None,
            _ => {
                let finding = history::find_snapshot(pool, buin, id, up_to);
                trace_single_statement("history.snapshot", finding).await?
            }
        };
        let metrics = &self.shared().metrics.history;
        metrics.replays.inc();
        let mut replay = Replay::new(id, buin, start);
        let mut distance = 0;
        loop {
            let range = HistoryRange {
                after: replay.session().map(|session| session.version),
                up_to,
                newest_first: false,
                max_events: MAX_STEP_EVENTS,
                max_bytes: MAX_STEP_BYTES,
            };
            let reading = history::read_events(pool, buin, id, range);
            let step = trace_single_statement("history.events", reading).await?;
            metrics.events_read.add(step.events.len() as u64);
            metrics.bytes_read.add(step.bytes as u64);
            self.work_turns().wait(step.bytes).await;
            distance += step.bytes + step.events.len() * EVENT_COST;
            for event in step.events {
                replay.push(event).map_err(repository::Error::from)?;
            }
            if !step.has_more {
                return Ok(replay.into_session());
            }
            // Only here, where the step is full: so all readers write the same snapshots, for every
            // version that they are looking for.
            if let Some(session) = replay.session()
                && distance >= MIN_SNAPSHOT_DISTANCE.max(SNAPSHOT_FACTOR * session.size())
            {
                distance = 0;
                self.write_snapshot(pool, session).await;
            }
            if deadline <= Instant::now() {
                return Err(Error::queue_timeout());
            }
        }
    }

    /// Stores a snapshot. A failure is logged, because the reader does not need the snapshot.
    async fn write_snapshot(&self, pool: &Pool, session: &Session) {
        let inserting = history::insert_snapshot(pool, session);
        match trace_single_statement("history.insert_snapshot", inserting).await {
            Ok(()) => self.shared().metrics.history.snapshots_written.inc(),
            Err(error) => error.warn("cannot store a snapshot of a session"),
        }
    }
}
