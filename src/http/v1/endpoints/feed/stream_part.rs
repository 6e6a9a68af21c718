//! Events of a stream of changes, as their bytes. Each event has a cursor as its id.

use serde::Serialize;

use super::view;
use crate::domain::{FeedSeq, Session};
use crate::http::v1::render::event_stream::{write_comment, write_event};
use crate::http::v1::render::view::SessionView;
use crate::service::FeedCursor;

/// The size at which a part of a stream is full, in bytes. Its last event may exceed it.
const FULL_BYTES: usize = 64 * 1024;

/// Events that are sent together.
#[derive(Default)]
pub(super) struct StreamPart {
    bytes: Vec<u8>,
    has_id: bool,
}

/// A position up to which the client has everything that matches.
#[derive(Serialize)]
struct PositionView {
    cursor: String,
}

impl StreamPart {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL_BYTES
    }

    /// Whether the part has an event, and not only comments.
    pub(super) fn has_id(&self) -> bool {
        self.has_id
    }

    /// The bytes of the part, which is empty then.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.has_id = false;
        std::mem::take(&mut self.bytes)
    }

    pub(super) fn add_comment(&mut self, text: &str) {
        write_comment(&mut self.bytes, text);
    }

    /// Adds a change. `tail` is the part of its text that all streams share.
    pub(super) fn add_change(
        &mut self,
        cursor: &FeedCursor,
        seq: FeedSeq,
        prev_seq: FeedSeq,
        tail: &[u8],
    ) {
        self.add(cursor, "change", |out| view::write_event(out, seq, prev_seq, cursor, tail));
    }

    pub(super) fn add_session(&mut self, cursor: &FeedCursor, session: &Session) {
        self.add(cursor, "session", |out| write_json(out, &SessionView::from(session)));
    }

    pub(super) fn add_snapshot_end(&mut self, cursor: &FeedCursor) {
        let position = PositionView { cursor: cursor.encode() };
        self.add(cursor, "snapshotEnd", |out| write_json(out, &position));
    }

    pub(super) fn add_bookmark(&mut self, cursor: &FeedCursor) {
        let position = PositionView { cursor: cursor.encode() };
        self.add(cursor, "bookmark", |out| write_json(out, &position));
    }

    pub(super) fn add_problem(&mut self, cursor: &FeedCursor, body: &impl Serialize) {
        self.add(cursor, "problem", |out| write_json(out, body));
    }

    fn add(&mut self, cursor: &FeedCursor, name: &str, write_data: impl FnOnce(&mut Vec<u8>)) {
        write_event(&mut self.bytes, &cursor.encode(), name, write_data);
        self.has_id = true;
    }
}

fn write_json(out: &mut Vec<u8>, value: &impl Serialize) {
    // Text, numbers and lists can always be written as JSON, and memory takes every write.
    let _ = serde_json::to_writer(out, value);
}
