//! Earlier versions of sessions, their events, and differences between versions.

use chrono::{DateTime, Utc};

use super::{Caller, Error, Sessions};
use crate::domain::{Changes, Event, Session, SessionId, Version};
use crate::repository;
use crate::repository::history::{self, UpTo};
use crate::telemetry::trace_single_statement;

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

/// A page of a history.
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
        let session = self.replay_up_to(caller, id, UpTo::Version(version)).await?;
        match session {
            None => Err(Error::SessionNotFound),
            Some(session) if session.version == version => Ok(session),
            Some(_) => Err(Error::VersionNotFound),
        }
    }

    /// The session at a point in time.
    ///
    /// # Errors
    /// [`Error::SessionNotFound`], [`Error::VersionNotFound`] if the session was created later, or
    /// the database fails.
    pub async fn at_time(
        &self,
        caller: &Caller,
        id: SessionId,
        at: DateTime<Utc>,
    ) -> Result<Session, Error> {
        match self.replay_up_to(caller, id, UpTo::Time(at)).await? {
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
    ) -> Result<Vec<Event>, Error> {
        let HistoryPage { after, newest_first, limit } = page;
        let page = history::HistoryRange { after, newest_first, limit };
        let pool = self.admit(caller).await?;
        let reading = history::events_page(&pool, caller.app().buin, id, page);
        let events = trace_single_statement("history.page", reading).await?;
        if events.is_empty() {
            self.get_uncached(caller, id).await?;
        }
        Ok(events)
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
        let buin = caller.app().buin;
        let events = self.events_up_to(caller, id, UpTo::Version(from.max(to))).await?;
        if events.is_empty() {
            return Err(Error::SessionNotFound);
        }
        let at = |version: Version| {
            let events = events.iter().filter(|event| event.version <= version).cloned();
            match Session::replay(id, buin, events).map_err(repository::Error::from)? {
                session if session.version == version => Ok(session),
                _ => Err(Error::VersionNotFound),
            }
        };
        let (from, to) = (at(from)?, at(to)?);
        let changes = from.changes_to(&to);
        Ok(SessionDiff { from, to, changes })
    }

    async fn replay_up_to(
        &self,
        caller: &Caller,
        id: SessionId,
        up_to: UpTo,
    ) -> Result<Option<Session>, Error> {
        let events = self.events_up_to(caller, id, up_to).await?;
        if events.is_empty() {
            return Ok(None);
        }
        let session = Session::replay(id, caller.app().buin, events);
        Ok(Some(session.map_err(repository::Error::from)?))
    }

    async fn events_up_to(
        &self,
        caller: &Caller,
        id: SessionId,
        up_to: UpTo,
    ) -> Result<Vec<Event>, Error> {
        let pool = self.admit(caller).await?;
        let reading = history::events_up_to(&pool, caller.app().buin, id, up_to);
        Ok(trace_single_statement("history.until", reading).await?)
    }
}
