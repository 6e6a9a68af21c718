//! Lists sessions: an ordered page of those that match a filter.
//!
//! In a list by creation, the position of a session is its id, which begins with its creation time.
//! In a list by change, the position is the time of the session's last event up to the commit horizon
//! of the first page. So a session that changes while a client reads the pages keeps its position and
//! appears once, in its current state.
//!
//! No statement reads more than a window of rows. Sources that certainly have few rows are tried
//! first, large ones last. If even the last source has too few matching sessions in its window, the
//! page is short and the next page continues after the window. The surprise: an empty page may not
//! be the last one.

mod bounds;
mod plan;
mod request;
mod row;
mod seek_key;
mod sources;
mod statement;

pub use request::{ListRequest, SessionListPage};
pub use seek_key::SeekKey;

use self::bounds::ListBounds;
use self::plan::plan;
use self::row::StepResult;
use crate::repository::Error;
use crate::repository::Pool;

/// Reads a page of sessions.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn list(pool: &Pool, request: &ListRequest<'_>) -> Result<SessionListPage, Error> {
    let bounds = ListBounds::read(pool, request).await?;
    let (steps, last) = plan(request);
    for step in &steps {
        let result = StepResult::from_rows(sources::fetch(pool, request, &bounds, step).await?)?;
        if result.is_conclusive(step) {
            return Ok(result.into_page(step, bounds));
        }
    }
    let result = StepResult::from_rows(sources::fetch(pool, request, &bounds, &last).await?)?;
    Ok(result.into_page(&last, bounds))
}
