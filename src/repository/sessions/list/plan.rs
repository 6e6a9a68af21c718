//! The order in which sources are tried for a page.

use super::request::ListRequest;
use crate::domain::{SessionFilter, SortKey};

/// The first window, in rows, if filters besides that of the index apply. This is enough for most
/// lists of one account, and for filters that most sessions match.
const FIRST_WINDOW: i64 = 1_000;
/// The largest number of rows of a source that is not in the order of the list.
const MAX_UNORDERED: i64 = 10_000;
/// The last window, in rows.
const LAST_WINDOW: i64 = 10_000;

/// The index that yields candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IndexSource {
    /// The sessions of the member, by id.
    Member,
    /// The sessions of the owner, by id.
    Owner,
    /// The sessions of the state, or of each, by id.
    State,
    /// Events by time. A session's position is its last event when the first page was read.
    Time,
    /// Titles of the enterprise that have all grams of the searched part.
    Title,
    /// Events since a time.
    Since,
}

/// One way to find a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlanStep {
    pub(super) source: IndexSource,
    /// The largest number of rows that are read from the source.
    pub(super) window: i64,
    /// Whether the source is not in the order of the list. Such a source must have fewer rows than
    /// the window. Otherwise the step finds nothing.
    pub(super) unordered: bool,
}

/// The steps to try until one yields a complete page, and the final step, whose page is always
/// used.
pub(super) fn plan(request: &ListRequest<'_>) -> (Vec<PlanStep>, PlanStep) {
    let SessionFilter { member, owner, title, state, updated_since } = request.filter;
    let ordered = |source, window| PlanStep { source, window, unordered: false };
    let unordered = |source| PlanStep { source, window: MAX_UNORDERED, unordered: true };
    let page = i64::from(request.limit) + 1;
    let account_sources =
        [member.as_ref().map(|_| IndexSource::Member), owner.as_ref().map(|_| IndexSource::Owner)];
    let account_sources = account_sources.into_iter().flatten();
    let other_sources = [
        title.as_ref().map(|_| IndexSource::Title),
        updated_since.map(|_| IndexSource::Since),
        state.map(|_| IndexSource::State),
    ];
    let other_sources = other_sources.into_iter().flatten();
    let filters = account_sources.clone().count() + other_sources.clone().count();
    match request.sort.by {
        SortKey::CreatedAt => {
            let mut ordered_sources: Vec<IndexSource> = account_sources.collect();
            // Every row that is read belongs to the page if the index covers all filters.
            let mut is_covering = filters == 1;
            if ordered_sources.is_empty() {
                ordered_sources.push(IndexSource::State);
                is_covering = filters == usize::from(state.is_some());
            }
            let first_window = if is_covering { page } else { FIRST_WINDOW };
            let last = ordered(ordered_sources[ordered_sources.len() - 1], LAST_WINDOW);
            let mut steps: Vec<_> =
                ordered_sources.into_iter().map(|source| ordered(source, first_window)).collect();
            let other_sources = other_sources.filter(|source| *source != IndexSource::State);
            steps.extend(other_sources.map(unordered));
            (steps, last)
        }
        SortKey::UpdatedAt => {
            // Some events belong to sessions that changed again later.
            let is_covering = filters == usize::from(updated_since.is_some());
            let first_window = if is_covering { FIRST_WINDOW.min(4 * page) } else { FIRST_WINDOW };
            let mut steps: Vec<_> = account_sources.map(unordered).collect();
            steps.push(ordered(IndexSource::Time, first_window));
            let other_sources = other_sources.filter(|source| *source != IndexSource::Since);
            steps.extend(other_sources.map(unordered));
            (steps, ordered(IndexSource::Time, LAST_WINDOW))
        }
    }
}
