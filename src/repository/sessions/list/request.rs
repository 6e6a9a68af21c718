//! The request for a page of sessions, and the page.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::seek_key::SeekKey;
use crate::domain::{Buin, Session, SessionFilter, Sort, SortKey};

/// The most members that the sessions of a page have in total. A page of one session may have more.
pub(super) const MAX_MEMBERS: i64 = 10_000;

/// A request for a page.
#[derive(Clone, Copy, Debug)]
pub struct ListRequest<'a> {
    /// The enterprise whose sessions are listed.
    pub buin: Buin,
    /// The filter.
    pub filter: &'a SessionFilter,
    /// The order.
    pub sort: Sort,
    /// The end of the previous page; `None` for the first page.
    pub after: Option<&'a SeekKey>,
    /// The most sessions of a page.
    pub limit: u16,
    /// The time.
    pub now: DateTime<Utc>,
}

impl ListRequest<'_> {
    /// The position behind which the page begins.
    pub(super) fn start(&self) -> (DateTime<Utc>, Uuid) {
        let extreme = if self.sort.newest_first { LAST_KEY } else { FIRST_KEY };
        let time = self.after.and_then(|mark| mark.time.as_ref());
        (
            time.map_or(extreme.0, |time| time.at),
            self.after.map_or(extreme.1, |mark| mark.id.uuid()),
        )
    }

    /// The id behind which a source begins that yields ids in order. In a list by change the ids of
    /// the previous page say nothing, so it begins at an end.
    pub(super) fn start_id(&self) -> Uuid {
        match (self.sort.by, self.sort.newest_first) {
            (SortKey::CreatedAt, _) => self.start().1,
            (SortKey::UpdatedAt, true) => LAST_KEY.1,
            (SortKey::UpdatedAt, false) => FIRST_KEY.1,
        }
    }
}

/// A page.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionListPage {
    /// The sessions, in order. Fewer than requested if they have many members, or if too many rows
    /// had to be looked at.
    pub sessions: Vec<Session>,
    /// The end of this page; `None` if no session can follow.
    pub next: Option<SeekKey>,
}

/// Positions before and behind all sessions.
const FIRST_KEY: (DateTime<Utc>, Uuid) = (DateTime::UNIX_EPOCH, Uuid::nil());
const LAST_KEY: (DateTime<Utc>, Uuid) = (SeekKey::LATEST, Uuid::max());
