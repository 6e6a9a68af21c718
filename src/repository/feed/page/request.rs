//! The request for a page of the feed, and the page.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::{Buin, FeedEvent, FeedFilter, FeedSeq, SessionId, Version};

/// A request for a page.
#[derive(Clone, Copy, Debug)]
pub struct FeedPageRequest<'a> {
    /// The enterprise.
    pub buin: Buin,
    /// Selects the changes.
    pub filter: &'a FeedFilter,
    /// The page starts after this change.
    pub after: FeedSeq,
    /// The maximum number of changes.
    pub limit: usize,
    /// The maximum size of all changes together, in bytes of JSON. The first change may exceed it.
    pub max_bytes: usize,
}

/// A position in the feed of an enterprise: the number of a change, and the change. The beginning has no change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnterprisePosition {
    /// The number.
    pub seq: FeedSeq,
    /// The session and the version that the change made.
    pub change: Option<(SessionId, Version)>,
}

/// A page. All of it is of one snapshot of the database.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedPart {
    /// The identity of the line of history.
    pub epoch: Uuid,
    /// The change at the start of the page, if there is one.
    pub start: Option<(SessionId, Version)>,
    /// The changes, in order.
    pub events: Vec<FeedEvent>,
    /// The size of all changes, in bytes of JSON.
    pub bytes: usize,
    /// The position after the page.
    pub next: EnterprisePosition,
    /// The last change of the enterprise.
    pub head: EnterprisePosition,
    /// The age of the first change after the page.
    pub lag: Duration,
}
