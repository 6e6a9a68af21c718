//! The request for a page of sessions, and the page.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::seek_key::SeekKey;
use crate::domain::{Buin, Session, SessionFilter, Sort, SortKey};

/// Positions before and after all sessions.
const FIRST_KEY: (DateTime<Utc>, Uuid) = (DateTime::UNIX_EPOCH, Uuid::nil());
const LAST_KEY: (DateTime<Utc>, Uuid) = (SeekKey::LATEST, Uuid::max());

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
    /// The largest number of sessions in a page.
    pub limit: u16,
    /// The time of the database in tests; `None`: the time of its clock.
    pub fixed_time: Option<DateTime<Utc>>,
}

impl ListRequest<'_> {
    /// The position after which the page begins. PostgreSQL begins to read there, so a list of the oldest
    /// changes since a time begins at that time.
    pub(super) fn start(&self) -> (DateTime<Utc>, Uuid) {
        let extreme = match (self.sort.newest_first, self.filter.updated_since) {
            (true, _) => LAST_KEY,
            (false, since) => (since.unwrap_or(FIRST_KEY.0), FIRST_KEY.1),
        };
        let changed_at = self.after.and_then(|key| key.changed_at);
        (changed_at.unwrap_or(extreme.0), self.after.map_or(extreme.1, |key| key.id.uuid()))
    }

    /// The id after which a source begins that yields ids in order. In a list by change the ids of
    /// the previous page have no meaning, so the source begins at its start or end.
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
    /// The sessions, in order. There are fewer than requested if they are large, or if too many rows
    /// had to be read.
    pub sessions: Vec<Session>,
    /// The end of this page; `None` if no further session can exist.
    pub next: Option<SeekKey>,
    /// The time up to which all pages together have every change. `None` in lists by creation
    /// without a time of change.
    pub complete_until: Option<DateTime<Utc>>,
}
