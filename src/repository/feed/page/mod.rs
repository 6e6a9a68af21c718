//! Reads a page of the feed of an enterprise: one statement for each source of candidates. A page of all
//! changes has a statement of its own.
//!
//! A source has streams of changes, each in the order of an index: the whole feed, a session, the
//! sessions of an account, the kinds of an app. The first rows of each stream are candidates, and a
//! page takes those that match the filter. A stream that was not read to its end bounds the page: a
//! later change of it may precede the candidates of the other streams. So each statement reads a
//! bounded number of rows, and the surprise is that an empty page may not be the last one.

mod filter;
mod matching;
mod page_of_account;
mod previous;
mod previous_of_account;
mod request;
pub(super) mod row;
mod statement;
mod streams;
mod unfiltered;

pub use request::{EnterprisePosition, FeedPageRequest, FeedPart};

use crate::domain::FeedSeq;
use crate::repository::{Error, Pool};

/// Reads a page.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn read_page(pool: &Pool, request: FeedPageRequest<'_>) -> Result<FeedPart, Error> {
    statement::fetch(pool, &request).await
}

/// The last change up to `request.after` that matches the filter; 0 if no change matches.
///
/// # Errors
/// When the database fails.
pub async fn previous_match(pool: &Pool, request: FeedPageRequest<'_>) -> Result<FeedSeq, Error> {
    let last = previous::find(pool, &request).await?;
    row::seq(last.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::filter::WINDOW;
    use super::previous::MAX_EXAMINED;
    use crate::domain::EventKind;

    const STREAMS: &str = include_str!("streams.rs");

    /// The macros of `sqlx` take literals only.
    #[test]
    fn statements_have_the_bounds_of_the_constants() {
        for (file, text) in [
            ("page_of_account", include_str!("page_of_account.rs")),
            ("previous_of_account", include_str!("previous_of_account.rs")),
            ("streams", STREAMS),
        ] {
            let numbers = text.split(|letter: char| !letter.is_ascii_digit());
            let large = numbers.filter_map(|number| number.parse().ok());
            let large: Vec<i64> = large.filter(|number| *number >= WINDOW).collect();
            assert!(large.contains(&MAX_EXAMINED), "{file}");
            for number in large {
                let known = [WINDOW, MAX_EXAMINED, MAX_EXAMINED + 1, i64::MAX];
                assert!(known.contains(&number), "{file}: {number}");
            }
        }
    }

    #[test]
    fn source_by_origin_has_every_kind() {
        let kinds = EventKind::ALL.map(|kind| format!("'{kind}'")).join(", ");
        assert!(STREAMS.contains(&format!("array[{kinds}]")), "{kinds}");
    }
}
