//! What is asked of a list, and what comes back.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::seek_key::Mark;
use crate::domain::{Buin, Filter, Session, Sort, SortKey};

/// The most members that the sessions of a page have together, unless it is one session.
pub(super) const MOST_MEMBERS: i64 = 10_000;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The enterprise: of others nothing is found.
    pub buin: Buin,
    /// Which sessions.
    pub filter: &'a Filter,
    /// In which order.
    pub sort: Sort,
    /// Where the page before ended; none for the first page.
    pub after: Option<&'a Mark>,
    /// The most sessions of a page.
    pub most: u16,
    /// The time.
    pub now: DateTime<Utc>,
}

impl Search<'_> {
    /// Behind which place the page begins.
    pub(super) fn begin(&self) -> (DateTime<Utc>, Uuid) {
        let far = if self.sort.newest_first { LAST } else { FIRST };
        let time = self.after.and_then(|mark| mark.time.as_ref());
        (time.map_or(far.0, |time| time.at), self.after.map_or(far.1, |mark| mark.id.uuid()))
    }

    /// Behind which id a source begins that gives ids in order: by change it is of no use to begin
    /// in the middle.
    pub(super) fn begin_ids(&self) -> Uuid {
        match (self.sort.by, self.sort.newest_first) {
            (SortKey::CreatedAt, _) => self.begin().1,
            (SortKey::UpdatedAt, true) => LAST.1,
            (SortKey::UpdatedAt, false) => FIRST.1,
        }
    }
}

/// A page.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The sessions, in order. Fewer than asked for if they have many members, or if too many had
    /// to be looked at.
    pub sessions: Vec<Session>,
    /// Where the next page begins; none if there can be no more.
    pub next: Option<Mark>,
}

/// Before and behind all places that there are.
const FIRST: (DateTime<Utc>, Uuid) = (DateTime::UNIX_EPOCH, Uuid::nil());
const LAST: (DateTime<Utc>, Uuid) = (Mark::LATEST, Uuid::max());
