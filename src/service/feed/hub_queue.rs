//! The changes that a stream has not taken yet.
//!
//! A queue has a fixed size. A stream that is too slow for the changes gets no changes at all for a
//! while: it is *behind*, and reads the missed changes from the database. So a slow client costs no
//! memory, and a fast one never loses its stream in a burst. A client that reads nothing while much
//! arrives for it is *closed*: it resumes at its last cursor.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::domain::FeedEvent;

/// The maximum size of the changes that wait for one stream, in bytes of their JSON text.
const MAX_QUEUED_BYTES: usize = 64 * 1024;
/// The number of bytes that a stream may miss without taking anything, before it is closed.
const MAX_MISSED_BYTES: usize = 1024 * 1024;
/// The maximum size of the changes that a stream polls at a time. One change may be larger.
const MAX_POLLED_BYTES: usize = 16 * 1024;

/// Renders the part of a change that all its readers share.
pub type RenderEvent = fn(&FeedEvent) -> Vec<u8>;

/// A change, for all streams that it concerns.
#[derive(Debug)]
pub struct LiveEvent {
    /// The change.
    pub event: FeedEvent,
    text: OnceLock<Vec<u8>>,
}

/// The result of a poll of the queue by its stream.
#[derive(Debug)]
pub enum StreamUpdate {
    /// The next changes, in their order.
    Events(Vec<Arc<LiveEvent>>),
    /// Changes were missed: read them from the database.
    Behind,
    /// The client reads too slowly: end the stream.
    Closed,
}

/// The changes for one subscription.
#[derive(Debug)]
pub(super) struct EventQueue {
    /// `None`: the subscriber awaits a change, and reads it from the database. It is behind after
    /// each change.
    render: Option<RenderEvent>,
    state: Mutex<QueuedEvents>,
    changed: Notify,
}

#[derive(Debug)]
struct QueuedEvents {
    events: VecDeque<Arc<LiveEvent>>,
    bytes: usize,
    status: QueueStatus,
    /// Whether the client has taken all that it was given.
    is_client_ready: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueStatus {
    /// Each change is queued.
    Current,
    /// No change is queued. The number is that of the bytes that were missed while the client took
    /// nothing.
    Behind(usize),
    Closed,
}

impl LiveEvent {
    pub(super) fn new(event: FeedEvent) -> Self {
        Self { event, text: OnceLock::new() }
    }

    /// The shared part, as the first of the streams renders it.
    pub fn text(&self, render: RenderEvent) -> &[u8] {
        self.text.get_or_init(|| render(&self.event))
    }
}

impl EventQueue {
    pub(super) fn new(render: Option<RenderEvent>) -> Self {
        let status = QueueStatus::Behind(0);
        let (events, is_client_ready) = (VecDeque::new(), true);
        let state = Mutex::new(QueuedEvents { events, bytes: 0, status, is_client_ready });
        Self { render, state, changed: Notify::new() }
    }

    /// Whether the subscriber reads the changes from the queue.
    pub(super) fn is_stream(&self) -> bool {
        self.render.is_some()
    }

    /// Queues a change, if the subscriber is not behind.
    pub(super) fn offer(&self, event: &Arc<LiveEvent>) -> QueueOutcome {
        let Some(render) = self.render else {
            self.set_behind();
            return QueueOutcome::Queued;
        };
        let len = event.text(render).len();
        let outcome = self.lock().offer(event, len);
        if outcome != QueueOutcome::Skipped {
            self.changed.notify_one();
        }
        outcome
    }

    /// Records that the subscriber may miss changes.
    pub(super) fn set_behind(&self) {
        self.lock().fall_behind();
        self.changed.notify_one();
    }

    /// Empties the queue. Every change that is published from now on is queued. The subscriber then
    /// reads the earlier ones from the database.
    pub(super) fn listen(&self) {
        let mut state = self.lock();
        if state.status != QueueStatus::Closed {
            state.clear();
            state.status = QueueStatus::Current;
        }
    }

    /// Records whether the client waits for more, or has not read all that was sent.
    pub(super) fn set_client_ready(&self, is_client_ready: bool) {
        let mut state = self.lock();
        state.is_client_ready = is_client_ready;
        if let QueueStatus::Behind(missed) = &mut state.status {
            *missed = 0;
        }
    }

    /// Waits for the next changes.
    pub(super) async fn next(&self) -> StreamUpdate {
        loop {
            if let Some(received) = self.lock().pop() {
                return received;
            }
            self.changed.notified().await;
        }
    }

    /// Whether the subscriber has taken every change that was published.
    pub(super) fn is_drained(&self) -> bool {
        let state = self.lock();
        state.status == QueueStatus::Current && state.events.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, QueuedEvents> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The effect of a change on a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueOutcome {
    Queued,
    /// The subscriber was behind before.
    Skipped,
    FellBehind,
    Closed,
}

impl QueuedEvents {
    fn offer(&mut self, event: &Arc<LiveEvent>, len: usize) -> QueueOutcome {
        match &mut self.status {
            QueueStatus::Current if self.bytes + len <= MAX_QUEUED_BYTES => {
                self.events.push_back(event.clone());
                self.bytes += len;
                QueueOutcome::Queued
            }
            QueueStatus::Current => {
                self.fall_behind();
                QueueOutcome::FellBehind
            }
            QueueStatus::Behind(missed) if !self.is_client_ready => {
                *missed += len;
                if *missed <= MAX_MISSED_BYTES {
                    return QueueOutcome::Skipped;
                }
                self.status = QueueStatus::Closed;
                QueueOutcome::Closed
            }
            QueueStatus::Behind(_) | QueueStatus::Closed => QueueOutcome::Skipped,
        }
    }

    fn fall_behind(&mut self) {
        if self.status == QueueStatus::Current {
            self.clear();
            self.status = QueueStatus::Behind(0);
        }
    }

    fn pop(&mut self) -> Option<StreamUpdate> {
        match self.status {
            QueueStatus::Closed => Some(StreamUpdate::Closed),
            QueueStatus::Behind(_) => Some(StreamUpdate::Behind),
            QueueStatus::Current => self.pop_events().map(StreamUpdate::Events),
        }
    }

    fn pop_events(&mut self) -> Option<Vec<Arc<LiveEvent>>> {
        let (mut events, mut polled) = (Vec::new(), 0);
        while polled < MAX_POLLED_BYTES
            && let Some(event) = self.events.pop_front()
        {
            let len = event.text.get().map_or(0, Vec::len);
            self.bytes = self.bytes.saturating_sub(len);
            polled += len;
            events.push(event);
        }
        (!events.is_empty()).then_some(events)
    }

    fn clear(&mut self) {
        // A burst leaves no memory behind.
        self.events = VecDeque::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::domain::{Changes, Event, EventKind, FeedSeq, SessionId, Version};

    /// A change whose text has this many bytes.
    fn event<const LEN: usize>(seq: i64) -> (Arc<LiveEvent>, RenderEvent) {
        let event = Event {
            version: Version::new(1).unwrap(),
            kind: EventKind::Updated,
            operator: crate::domain::Account::new("alice").unwrap(),
            app_id: "app".parse().unwrap(),
            reason: None,
            changes: Changes::default(),
            at: chrono::DateTime::UNIX_EPOCH,
        };
        let (seq, session_id) = (FeedSeq::new(seq).unwrap(), SessionId::new(uuid::Uuid::nil()));
        let event = FeedEvent { seq, session_id, event };
        (Arc::new(LiveEvent::new(event)), |_| vec![b'x'; LEN])
    }

    const KIB: usize = 1024;

    fn queue<const LEN: usize>() -> EventQueue {
        let queue = EventQueue::new(Some(event::<LEN>(1).1));
        queue.listen();
        queue
    }

    /// The numbers of the changes that wait; `None` if the stream is behind.
    fn received(queue: &EventQueue) -> Option<Vec<i64>> {
        match queue.next().now_or_never() {
            None => Some(Vec::new()),
            Some(StreamUpdate::Events(events)) => {
                Some(events.iter().map(|event| event.event.seq.get()).collect())
            }
            Some(StreamUpdate::Behind) => None,
            Some(StreamUpdate::Closed) => panic!("closed"),
        }
    }

    #[test]
    fn stream_with_a_full_queue_is_behind_until_it_listens_again() {
        let queue = queue::<{ 8 * KIB }>();
        for seq in 1..=8 {
            assert_eq!(queue.offer(&event::<{ 8 * KIB }>(seq).0), QueueOutcome::Queued);
        }
        assert_eq!(queue.offer(&event::<{ 8 * KIB }>(9).0), QueueOutcome::FellBehind);
        assert_eq!(queue.offer(&event::<{ 8 * KIB }>(10).0), QueueOutcome::Skipped);
        assert!(queue.lock().events.is_empty(), "nothing is kept");
        assert_eq!(received(&queue), None);
        assert!(!queue.is_drained());
        queue.listen();
        assert!(queue.is_drained());
        assert_eq!(queue.offer(&event::<{ 8 * KIB }>(11).0), QueueOutcome::Queued);
        assert!(!queue.is_drained());
        assert_eq!(received(&queue), Some(vec![11]));
        assert!(queue.is_drained());
    }

    #[test]
    fn stream_takes_a_part_of_its_queue_at_a_time() {
        let queue = queue::<{ 10 * KIB }>();
        for seq in 1..=5 {
            queue.offer(&event::<{ 10 * KIB }>(seq).0);
        }
        for expected in [vec![1, 2], vec![3, 4], vec![5], vec![]] {
            assert_eq!(received(&queue), Some(expected));
        }
        assert_eq!(queue.lock().bytes, 0);
    }

    #[test]
    fn change_that_exceeds_the_queue_is_read_from_the_database() {
        let queue = queue::<{ 65 * KIB }>();
        assert_eq!(queue.offer(&event::<{ 65 * KIB }>(1).0), QueueOutcome::FellBehind);
        assert_eq!(received(&queue), None);
    }

    #[test]
    fn stream_whose_client_reads_nothing_is_closed() {
        let queue = queue::<{ 64 * KIB }>();
        queue.offer(&event::<{ 64 * KIB }>(1).0);
        queue.offer(&event::<{ 64 * KIB }>(2).0);
        // A client that waits for the database is not slow.
        for seq in 3..=100 {
            assert_eq!(queue.offer(&event::<{ 64 * KIB }>(seq).0), QueueOutcome::Skipped);
        }
        queue.set_client_ready(false);
        for seq in 101..=116 {
            assert_eq!(queue.offer(&event::<{ 64 * KIB }>(seq).0), QueueOutcome::Skipped);
        }
        assert_eq!(queue.offer(&event::<{ 64 * KIB }>(117).0), QueueOutcome::Closed);
        assert_eq!(queue.offer(&event::<{ 64 * KIB }>(118).0), QueueOutcome::Skipped);
        queue.listen();
        assert!(matches!(queue.next().now_or_never(), Some(StreamUpdate::Closed)));
    }

    #[test]
    fn waiting_request_is_behind_after_each_change() {
        let queue = EventQueue::new(None);
        assert_eq!(received(&queue), None, "it may have missed a change before");
        queue.listen();
        assert_eq!(received(&queue), Some(vec![]));
        assert!(queue.is_drained());
        queue.offer(&event::<1>(1).0);
        assert!(!queue.is_drained());
        assert_eq!(received(&queue), None);
    }
}
