//! Lists sessions: an ordered page of those that match a filter.
//!
//! In a list by creation, the position of a session is its id, which begins with its creation time.
//! In a list by change, the position is the time of the session's last event when the first page
//! was read. So a session that changes while a client reads the pages keeps its position and
//! appears once, in its current state.
//!
//! No statement reads more than a window of rows. Sources that certainly have few rows are tried
//! first, large ones last. If even the last source has too few matching sessions in its window, the
//! page is short and the next page continues after the window. The surprise: an empty page may not
//! be the last one.

mod plan;
mod request;
mod row;
mod seek_key;
mod sources;
mod statement;

pub use request::{ListRequest, SessionListPage};
pub use seek_key::{InvalidSnapshot, ReadSnapshot, SeekKey, TimeSeekKey, TransactionSnapshot};

use self::plan::plan;
use self::row::StepResult;
use crate::domain::SortKey;
use crate::repository::Error;
use crate::repository::Pool;

/// Reads a page of sessions.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn list(pool: &Pool, request: &ListRequest<'_>) -> Result<SessionListPage, Error> {
    let as_of = match (request.sort.by, request.after.and_then(|key| key.time.as_ref())) {
        (SortKey::CreatedAt, _) => None,
        (SortKey::UpdatedAt, Some(time)) => Some(time.as_of.clone()),
        (SortKey::UpdatedAt, None) => Some(ReadSnapshot::take(pool, request.now).await?),
    };
    let (steps, last) = plan(request);
    for step in &steps {
        let result =
            StepResult::from_rows(sources::fetch(pool, request, as_of.as_ref(), step).await?)?;
        if result.is_conclusive(step) {
            return Ok(result.into_page(step, as_of));
        }
    }
    let result =
        StepResult::from_rows(sources::fetch(pool, request, as_of.as_ref(), &last).await?)?;
    Ok(result.into_page(&last, as_of))
}
