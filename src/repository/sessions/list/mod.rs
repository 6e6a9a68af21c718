//! Lists sessions: an ordered page of those that match a filter.
//!
//! In a list by creation, the position of a session is its id, which begins with its creation time.
//! In a list by change, the position is the time of the session's last event up to the commit horizon
//! of the first page. So a session that changes while a client reads the pages keeps its position and
//! appears once, in its current state.
//!
//! No statement reads more than a window of rows. Sources that certainly have few rows are tried
//! first, large ones last. If even the last source has too few matching sessions in its window, the
//! page is short and the next page continues after the window. In a list by creation, the window of a
//! search by title begins where the first titles are that can match. The surprise: an empty page may
//! not be the last one.

mod bounds;
mod plan;
mod request;
mod row;
mod seek_key;
mod sources;
mod statement;
mod title_seek;

pub use request::{ListRequest, SessionListPage};
pub use seek_key::SeekKey;

use self::bounds::ListBounds;
use self::plan::{PlanStep, plan};
use self::row::StepResult;
use super::titles;
use crate::domain::{SessionId, SortKey};
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
    let folded = request.filter.title.as_ref().map(|part| titles::fold(part.as_str()));
    let Some(folded) = folded.filter(|_| request.sort.by == SortKey::CreatedAt) else {
        return last_page(pool, request, &bounds, &last).await;
    };
    let Some(start) = title_seek::first_titles(pool, request, &folded).await? else {
        let ListBounds { complete_until, .. } = bounds;
        return Ok(SessionListPage { sessions: Vec::new(), next: None, complete_until });
    };
    let key = SeekKey { id: SessionId::new(start), changed_at: None, complete_until: None };
    let request = ListRequest { after: Some(&key), ..*request };
    last_page(pool, &request, &bounds, &last).await
}

async fn last_page(
    pool: &Pool,
    request: &ListRequest<'_>,
    bounds: &ListBounds,
    last: &PlanStep,
) -> Result<SessionListPage, Error> {
    let result = StepResult::from_rows(sources::fetch(pool, request, bounds, last).await?)?;
    Ok(result.into_page(last, *bounds))
}
