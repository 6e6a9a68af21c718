//! The changes that a list includes: those that had been committed for certain.
//!
//! A client that follows changes asks for the changes since a time, and continues with the time up
//! to which the list is complete. No change may appear before that time later, so a list ends at the
//! commit horizon of its first page. The surprise: a list by creation has no snapshot, so each page
//! ends at a horizon of its own; a session that changes between two pages stays in the list.

use chrono::{DateTime, Utc};

use super::request::ListRequest;
use super::seek_key::ReadSnapshot;
use crate::domain::SortKey;
use crate::repository::commit_horizon::CommitHorizon;
use crate::repository::{Error, Pool};

/// The bounds of a page.
pub(super) struct ListBounds {
    /// The state of the database that orders a list by change.
    pub(super) as_of: Option<ReadSnapshot>,
    /// The latest change of a session in the page. `None` on later pages of a list by change, and in
    /// lists that no time of change bounds.
    pub(super) updated_until: Option<DateTime<Utc>>,
    /// The time up to which the list has every change, the same on all its pages.
    pub(super) complete_until: Option<DateTime<Utc>>,
}

impl ListBounds {
    /// Determines the bounds of a page.
    pub(super) async fn read(pool: &Pool, request: &ListRequest<'_>) -> Result<Self, Error> {
        let as_of = request.after.and_then(|key| key.time.as_ref()).map(|time| time.as_of.clone());
        match (request.sort.by, request.filter.updated_since, as_of) {
            (SortKey::CreatedAt, None, _) => {
                Ok(Self { as_of: None, updated_until: None, complete_until: None })
            }
            (SortKey::CreatedAt, Some(since), _) => {
                let horizon = CommitHorizon::read(pool, request.fixed_time).await?.settled_until;
                let complete_until = match request.after {
                    None => horizon,
                    // The cursor of an earlier release has no such time.
                    Some(key) => key.complete_until.unwrap_or(since),
                };
                Ok(Self {
                    as_of: None,
                    updated_until: Some(horizon),
                    complete_until: Some(complete_until),
                })
            }
            (SortKey::UpdatedAt, _, None) => {
                let horizon = CommitHorizon::read(pool, request.fixed_time).await?;
                let as_of = ReadSnapshot::take(pool, horizon).await?;
                let until = Some(as_of.at);
                Ok(Self { as_of: Some(as_of), updated_until: until, complete_until: until })
            }
            (SortKey::UpdatedAt, _, Some(as_of)) => {
                let complete_until = Some(as_of.at);
                Ok(Self { as_of: Some(as_of), updated_until: None, complete_until })
            }
        }
    }
}
