//! The changes that a list includes: those that had been committed for certain.
//!
//! A client that follows changes asks for the changes since a time, and continues with the time up
//! to which the list is complete. No change may appear before that time later, so a list ends at the
//! commit horizon of its first page. In a list by change, all pages take the last change of each
//! session up to this horizon, so later changes have no effect on the order. The surprise: each page
//! of a list by creation also ends at a horizon of its own; a session that changes between two pages
//! stays in the list.

use chrono::{DateTime, Utc};

use super::request::ListRequest;
use crate::domain::SortKey;
use crate::repository::commit_horizon::CommitHorizon;
use crate::repository::{Error, Pool};

/// The bounds of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListBounds {
    /// The latest change of a session in the page. `None` on later pages of a list by change, and in
    /// lists that no time of change bounds.
    pub(super) updated_until: Option<DateTime<Utc>>,
    /// The time up to which the list has every change, the same on all its pages. In a list by
    /// change, also the latest position.
    pub(super) complete_until: Option<DateTime<Utc>>,
}

impl ListBounds {
    /// Determines the bounds of a page.
    pub(super) async fn read(pool: &Pool, request: &ListRequest<'_>) -> Result<Self, Error> {
        let first_horizon = request.after.and_then(|key| key.complete_until);
        match (request.sort.by, request.filter.updated_since, first_horizon) {
            (SortKey::CreatedAt, None, _) => Ok(Self { updated_until: None, complete_until: None }),
            (SortKey::UpdatedAt, _, Some(_)) => {
                Ok(Self { updated_until: None, complete_until: first_horizon })
            }
            (SortKey::CreatedAt, Some(_), _) | (SortKey::UpdatedAt, _, None) => {
                let horizon = CommitHorizon::read(pool, request.fixed_time).await?.settled_until;
                let complete_until = Some(first_horizon.unwrap_or(horizon));
                Ok(Self { updated_until: Some(horizon), complete_until })
            }
        }
    }
}
