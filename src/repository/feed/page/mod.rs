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
