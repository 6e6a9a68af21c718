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
mod request;
mod row;
mod seek_key;
mod sources;
mod statement;

pub use request::{Page, Search};
pub use seek_key::{AsOf, Mark, NoSnapshot, Snapshot, TimeMark};

use self::plan::attempts;
use self::row::Seen;
use crate::domain::SortKey;
use crate::repository::Error;
use crate::repository::PgPool;

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
