//! Finding sessions: a page of those that meet a filter, in an order.
//!
//! By creation the place of a session is its id, which begins with that time. By change it is the
//! time of its last event as of the first page; so a session that changes while somebody turns the
//! pages keeps its place, and comes once, as it is by then.
//!
//! No statement looks at more than a window of rows. What finds few sessions for sure is tried
//! first, what is large last; where even that finds too few in its window, the page is short and
//! the next one goes on behind the window. The surprise: a page may be empty and not the last.

mod plan;
mod row;
mod seek_key;
mod sources;
mod statement;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use seek_key::{AsOf, Mark, NoSnapshot, Snapshot, TimeMark};

use self::plan::attempts;
use self::row::Seen;
use crate::domain::{Buin, Filter, Session, Sort, SortKey};
use crate::repository::Error;
use crate::repository::PgPool;

/// The most members that the sessions of a page have together, unless it is one session.
const MOST_MEMBERS: i64 = 10_000;

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

/// A page.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The sessions, in order. Fewer than asked for if they have many members, or if too many had
    /// to be looked at.
    pub sessions: Vec<Session>,
    /// Where the next page begins; none if there can be no more.
    pub next: Option<Mark>,
}

/// Reads a page of sessions.
///
/// # Errors
/// When the database fails, or holds what cannot be.
pub async fn list(pool: &PgPool, search: &Search<'_>) -> Result<Page, Error> {
    let as_of = match (search.sort.by, search.after.and_then(|mark| mark.time.as_ref())) {
        (SortKey::CreatedAt, _) => None,
        (SortKey::UpdatedAt, Some(time)) => Some(time.as_of.clone()),
        (SortKey::UpdatedAt, None) => Some(AsOf::begin(pool, search.now).await?),
    };
    let (tries, last) = attempts(search);
    for attempt in &tries {
        let seen = Seen::of(sources::run(pool, search, as_of.as_ref(), attempt).await?)?;
        if seen.is_conclusive(attempt) {
            return Ok(seen.page(attempt, as_of));
        }
    }
    let seen = Seen::of(sources::run(pool, search, as_of.as_ref(), &last).await?)?;
    Ok(seen.page(&last, as_of))
}

impl Search<'_> {
    /// Behind which place the page begins.
    fn begin(&self) -> (DateTime<Utc>, Uuid) {
        let far = if self.sort.newest_first { LAST } else { FIRST };
        let time = self.after.and_then(|mark| mark.time.as_ref());
        (time.map_or(far.0, |time| time.at), self.after.map_or(far.1, |mark| mark.id.uuid()))
    }

    /// Behind which id a source begins that gives ids in order: by change it is of no use to begin
    /// in the middle.
    fn begin_ids(&self) -> Uuid {
        match (self.sort.by, self.sort.newest_first) {
            (SortKey::CreatedAt, _) => self.begin().1,
            (SortKey::UpdatedAt, true) => LAST.1,
            (SortKey::UpdatedAt, false) => FIRST.1,
        }
    }
}

/// Before and behind all places that there are.
const FIRST: (DateTime<Utc>, Uuid) = (DateTime::UNIX_EPOCH, Uuid::nil());
const LAST: (DateTime<Utc>, Uuid) = (Mark::LATEST, Uuid::max());
