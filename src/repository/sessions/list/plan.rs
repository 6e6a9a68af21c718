//! The order in which sources are tried for a page.

use super::request::Search;
use crate::domain::{Filter, SortKey};

/// How many rows are looked at first, if filters besides that of the index apply. This is enough
/// for most lists of one account, and for filters that most sessions match.
const NEAR: i64 = 1_000;
/// How many rows a source may have if it is not in the order of the list.
const WHOLE: i64 = 10_000;
/// How many rows are looked at last.
const FAR: i64 = 10_000;

/// The index that yields candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The sessions of the member, by id.
    Member,
    /// The sessions of the owner, by id.
    Owner,
    /// The sessions of the state, or of each, by id.
    State,
    /// Events by time. The last event of a session when the first page was read is its position.
    Time,
    /// Titles that have all grams of the searched part.
    Title,
    /// Events since a time.
    Since,
}

/// One way to find a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) source: Source,
    /// The most rows of the source that are looked at.
    pub(super) window: i64,
    /// Whether the source must have fewer rows than that, because it is not in the order of the
    /// list. If it has more, nothing is found.
    pub(super) whole: bool,
}

/// The attempts to make until one yields a complete page, and the final one, whose page counts in
/// any case.
pub(super) fn attempts(search: &Search<'_>) -> (Vec<Attempt>, Attempt) {
    let Filter { member, owner, title, state, updated_since } = search.filter;
    let walk = |source, window| Attempt { source, window, whole: false };
    let whole = |source| Attempt { source, window: WHOLE, whole: true };
    let page = i64::from(search.most) + 1;
    let of_account =
        [member.as_ref().map(|_| Source::Member), owner.as_ref().map(|_| Source::Owner)];
    let of_account = of_account.into_iter().flatten();
    let others = [
        title.as_ref().map(|_| Source::Title),
        updated_since.map(|_| Source::Since),
        state.map(|_| Source::State),
    ];
    let others = others.into_iter().flatten();
    let filters = of_account.clone().count() + others.clone().count();
    match search.sort.by {
        SortKey::CreatedAt => {
            let mut walks: Vec<Source> = of_account.collect();
            // If the index covers all filters, every row that is read is in the page.
            let mut alone = filters == 1;
            if walks.is_empty() {
                walks.push(Source::State);
                alone = filters == usize::from(state.is_some());
            }
            let near = if alone { page } else { NEAR };
            let last = walk(walks[walks.len() - 1], FAR);
            let mut tries: Vec<_> = walks.into_iter().map(|source| walk(source, near)).collect();
            tries.extend(others.filter(|source| *source != Source::State).map(whole));
            (tries, last)
        }
        SortKey::UpdatedAt => {
            // Some events belong to sessions that changed again later.
            let alone = filters == usize::from(updated_since.is_some());
            let near = if alone { NEAR.min(4 * page) } else { NEAR };
            let mut tries: Vec<_> = of_account.map(whole).collect();
            tries.push(walk(Source::Time, near));
            tries.extend(others.filter(|source| *source != Source::Since).map(whole));
            (tries, walk(Source::Time, FAR))
        }
    }
}
