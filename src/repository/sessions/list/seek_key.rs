//! The end of a page, after which the next one begins.

use chrono::{DateTime, Utc};

use crate::domain::SessionId;

/// The position after which a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeekKey {
    /// The session at that position.
    pub id: SessionId,
    /// The time of the session's change, in lists by change.
    pub changed_at: Option<DateTime<Utc>>,
    /// The commit horizon of the first page, up to which the list is complete: in lists by change,
    /// and in lists by creation that begin at a time of change.
    pub complete_until: Option<DateTime<Utc>>,
}

impl SeekKey {
    /// The latest possible time of a position: the end of the year 9999.
    pub const LATEST: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_799, 0) {
        Some(time) => time,
        None => DateTime::UNIX_EPOCH,
    };
}
