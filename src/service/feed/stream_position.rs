//! The position of a stream among the changes: up to which change its client has everything.

use super::cursor::{FeedCursor, FilterDigest, LastMatch};
use super::hub::Subscription;
use crate::domain::{FeedEvent, FeedFilter, FeedSeq};

/// The position of a stream that reads new changes.
#[derive(Clone, Copy, Debug)]
pub struct StreamPosition {
    cursor: FeedCursor,
    filter: FilterDigest,
    /// Whether every change matches the filter.
    is_all: bool,
    /// The last change of the stream; `None` if the stream began at a position where it is not known.
    last: Option<FeedSeq>,
}

/// How a new change continues a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStep {
    /// The client has the change already.
    Seen,
    /// The change follows this one.
    After(FeedSeq),
    /// The change before it must be found in the database. The position has not moved.
    Unknown,
}

impl StreamPosition {
    /// The position after a page with this end.
    #[must_use]
    pub fn after(next: FeedCursor, filter: &FeedFilter) -> Self {
        let (is_all, filter) = (filter.is_empty(), FilterDigest::for_filter(filter));
        let last = if is_all { Some(next.seq) } else { next.last_match(filter) };
        Self { cursor: next, filter, is_all, last }
    }

    /// The cursor of the position.
    #[must_use]
    pub fn cursor(&self) -> FeedCursor {
        self.cursor
    }

    /// Moves behind the next change of the stream.
    pub fn advance(&mut self, event: &FeedEvent) -> StreamStep {
        if event.seq <= self.cursor.seq {
            return StreamStep::Seen;
        }
        let Some(before) = self.last else { return StreamStep::Unknown };
        let fingerprint = FeedCursor::fingerprint(event.session_id, event.event.version);
        self.last = Some(event.seq);
        self.move_to(event.seq, fingerprint);
        StreamStep::After(before)
    }

    /// Sets the last change of the stream up to the position; 0 is the beginning of the stream.
    pub fn set_last(&mut self, last: FeedSeq) {
        self.last = Some(last);
    }

    /// Moves behind all changes that the subscription has examined, if its changes were taken.
    pub fn settle(&mut self, subscription: &Subscription) {
        if let Some(last) = subscription.settled()
            && last.seq > self.cursor.seq
        {
            if self.is_all {
                self.last = Some(last.seq);
            }
            self.move_to(last.seq, FeedCursor::fingerprint(last.session_id, last.version));
        }
    }

    fn move_to(&mut self, seq: FeedSeq, fingerprint: [u8; 4]) {
        let filter = self.filter;
        let last_match = self.last.map(|seq| LastMatch { filter, seq });
        let epoch = self.cursor.epoch;
        self.cursor = FeedCursor { epoch, seq, fingerprint, last_match, snapshot: None };
    }
}
