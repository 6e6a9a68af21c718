//! How far a connection is: whose turn it is, and by when. No sockets here, only times.
//!
//! The framework limits the first head of a connection and nothing else, and knows nothing of the
//! connection's opening; so these are limits for the later heads, for connections without a request,
//! and for clients that do not read.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::disconnect::DisconnectSignal;
use super::h2_frame_tracker::{FrameTracker, Remainder};
use super::pipelining::NextRequestDetector;
use crate::metrics::CloseReason;

/// How much later than the framework the first head of a connection is given up here, so that the
/// framework can answer 408. It begins to count when TLS is open, which may be late already.
const HEAD_GRACE: Duration = Duration::from_millis(500);

/// How long a client may let the server wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionTimeouts {
    /// For the rest of a head.
    pub(super) head: Duration,
    /// For room to write into.
    pub(super) write: Duration,
    /// For the next request.
    pub(super) idle: Duration,
}

/// What a client is too slow with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeoutKind {
    /// Sending the first head, or the rest of what has begun.
    Head,
    /// Using the connection.
    Idle,
    /// Taking an answer.
    Write,
}

/// What came, as it is told apart.
#[derive(Debug)]
pub(super) enum ProtocolState {
    /// Over HTTP/1: what is no request yet is the beginning of one.
    H1(NextRequestDetector),
    /// Over HTTP/2: what is no whole frame is the beginning of one, whatever else runs.
    H2(FrameTracker),
}

/// Bytes below TLS that have given no byte above it yet, which may be a part of a record. Without
/// TLS they stay absent.
///
/// The surprise: the part of a record that comes in one read with the end of another one is not
/// noticed before its next byte. Records are not parsed here.
#[derive(Debug, Default)]
pub(super) struct UndecodedBytes {
    /// When the first of them came.
    since: Cell<Option<Instant>>,
}

impl UndecodedBytes {
    /// Bytes came below TLS.
    pub(super) fn on_bytes(&self) {
        if self.since.get().is_none() {
            self.restart();
        }
    }

    /// Bytes came above TLS. Gives the time when the first of them came below.
    pub(super) fn decoded(&self) -> Option<Instant> {
        self.since.take()
    }

    /// The time of bytes that are there begins now.
    fn restart_if_any(&self) {
        if self.since.get().is_some() {
            self.restart();
        }
    }

    fn restart(&self) {
        self.since.set(Some(Instant::now()));
    }
}

/// One connection, shared by its socket and its requests.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    timeouts: ConnectionTimeouts,
    /// When its opening began.
    opened_at: Instant,
    /// Requests whose answers are not out of hand yet.
    active_requests: Cell<usize>,
    /// Whether there was a request at all.
    had_request: Cell<bool>,
    /// Since when none runs.
    idle_since: Cell<Instant>,
    /// Since when the rest is awaited of what has begun to come.
    head_started_at: Cell<Option<Instant>>,
    protocol: RefCell<ProtocolState>,
    undecoded: Rc<UndecodedBytes>,
    /// Since when the socket takes nothing.
    write_blocked_since: Cell<Option<Instant>>,
    disconnect: Rc<DisconnectSignal>,
    close_reason: Cell<Option<CloseReason>>,
}

/// A request that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct ActiveRequest(Rc<ConnectionState>);

impl ConnectionState {
    /// A connection whose opening began when it was `opened`, and is over; nothing `came` since.
    pub(super) fn new(
        timeouts: ConnectionTimeouts,
        opened_at: Instant,
        protocol: ProtocolState,
        undecoded: Rc<UndecodedBytes>,
    ) -> Rc<Self> {
        Rc::new(Self {
            timeouts,
            opened_at,
            active_requests: Cell::default(),
            had_request: Cell::default(),
            idle_since: Cell::new(Instant::now()),
            head_started_at: Cell::default(),
            protocol: RefCell::new(protocol),
            undecoded,
            write_blocked_since: Cell::default(),
            disconnect: Rc::default(),
            close_reason: Cell::default(),
        })
    }

    /// By when a connection is open, or its first head there: TLS takes from the same time.
    pub(super) fn handshake_deadline(&self) -> Instant {
        self.opened_at + self.timeouts.head
    }

    /// These bytes came.
    pub(super) fn on_read(&self, bytes: &[u8]) {
        let since = self.undecoded.decoded().unwrap_or_else(Instant::now);
        match &mut *self.protocol.borrow_mut() {
            ProtocolState::H1(detector) => {
                detector.add(bytes);
                let is_idle = self.active_requests.get() == 0 && self.had_request.get();
                if is_idle && self.head_started_at.get().is_none() {
                    self.head_started_at.set(Some(since));
                }
            }
            ProtocolState::H2(frames) => match frames.add(bytes) {
                Remainder::None => self.head_started_at.set(None),
                Remainder::New => self.head_started_at.set(Some(since)),
                Remainder::Same => {}
            },
        }
    }

    /// The client, as far as the connection knows.
    pub(crate) fn disconnect_signal(&self) -> &Rc<DisconnectSignal> {
        &self.disconnect
    }

    /// Nothing more comes.
    pub(super) fn on_eof(&self) {
        self.disconnect.signal();
    }

    /// The socket takes nothing.
    pub(super) fn on_write_blocked(&self) {
        if self.write_blocked_since.get().is_none() {
            self.write_blocked_since.set(Some(Instant::now()));
        }
    }

    /// The socket took something.
    pub(super) fn on_write_progress(&self) {
        if self.write_blocked_since.take().is_none() {
            return;
        }
        self.undecoded.restart_if_any();
        if self.head_started_at.get().is_some() && self.is_h2() {
            self.head_started_at.set(Some(Instant::now()));
        }
    }

    /// Whether the first head is awaited; frames are awaited one by one.
    fn awaits_first_head(&self) -> bool {
        !self.had_request.get() && !self.is_h2()
    }

    fn is_h2(&self) -> bool {
        matches!(*self.protocol.borrow(), ProtocolState::H2(_))
    }

    /// A request is there. Over HTTP/1 it announces a `body` of so many bytes.
    pub(crate) fn start_request(self: &Rc<Self>, body_len: u64) -> ActiveRequest {
        if let ProtocolState::H1(detector) = &mut *self.protocol.borrow_mut() {
            detector.set_body_len(body_len);
            self.head_started_at.set(None);
        }
        self.had_request.set(true);
        self.active_requests.set(self.active_requests.get() + 1);
        ActiveRequest(self.clone())
    }

    /// What is the next to be overdue, and when.
    pub(super) fn deadline(&self) -> Option<(Instant, TimeoutKind)> {
        let blocked_since = self.write_blocked_since.get();
        let write = blocked_since.map(|since| (since + self.timeouts.write, TimeoutKind::Write));
        let request = match self.head_started_at.get() {
            // Frames are not read while nothing can be written: the rest may be there.
            Some(_) if blocked_since.is_some() && self.is_h2() => None,
            Some(since) => Some((since + self.timeouts.head, TimeoutKind::Head)),
            None if self.active_requests.get() > 0 => None,
            None if self.awaits_first_head() => {
                Some((self.handshake_deadline() + HEAD_GRACE, TimeoutKind::Head))
            }
            None => Some(match self.undecoded.since.get() {
                Some(since) if blocked_since.is_none() => {
                    (since + self.timeouts.head, TimeoutKind::Head)
                }
                _ => (self.idle_since.get() + self.timeouts.idle, TimeoutKind::Idle),
            }),
        };
        write.into_iter().chain(request).min_by_key(|(at, _)| *at)
    }

    /// The connection ends because its client is too slow with this; the first thing counts.
    pub(crate) fn set_close_reason(&self, reason: CloseReason) {
        if self.close_reason.get().is_none() {
            self.close_reason.set(Some(reason));
        }
    }

    /// The connection ends because this is overdue.
    pub(super) fn on_timeout(&self, kind: TimeoutKind) {
        match kind {
            TimeoutKind::Head => self.set_close_reason(CloseReason::Head),
            TimeoutKind::Write => self.set_close_reason(CloseReason::Write),
            TimeoutKind::Idle => {}
        }
    }

    /// What a connection that has ended, well or not, was cut off for, if it was. That the framework
    /// gave up a first head it tells nobody: it ends well without one, while the client is there.
    pub(super) fn close_reason(&self, ended_well: bool) -> Option<CloseReason> {
        let is_given_up =
            ended_well && self.awaits_first_head() && !self.disconnect.is_disconnected();
        self.close_reason.get().or(is_given_up.then_some(CloseReason::Head))
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let active_requests = self.0.active_requests.get() - 1;
        self.0.active_requests.set(active_requests);
        if active_requests > 0 {
            return;
        }
        let now = Instant::now();
        self.0.idle_since.set(now);
        self.0.undecoded.restart_if_any();
        // A part of the next request may have come together with this one.
        if matches!(&*self.0.protocol.borrow(), ProtocolState::H1(detector) if detector.next_request_started())
        {
            self.0.head_started_at.set(Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn connection(came: ProtocolState) -> Rc<ConnectionState> {
        let patience =
            ConnectionTimeouts { head: 5 * SECOND, write: 30 * SECOND, idle: 75 * SECOND };
        ConnectionState::new(patience, Instant::now(), came, Rc::default())
    }

    /// What is overdue next, and in how many seconds.
    fn next(progress: &ConnectionState) -> Option<(u64, TimeoutKind)> {
        let (at, what) = progress.deadline()?;
        Some((at.duration_since(Instant::now()).as_secs(), what))
    }

    #[tokio::test(start_paused = true)]
    async fn idle_timeout_is_long_and_head_timeout_short() {
        let progress = connection(ProtocolState::H1(NextRequestDetector::default()));
        progress.on_read(b"G");
        tokio::time::advance(SECOND).await;
        assert_eq!(next(&progress), Some((4, TimeoutKind::Head)), "the opening included");
        progress.on_read(b"ET / HTTP/1.1\r\n\r\n");
        let running = progress.start_request(0);
        tokio::time::advance(100 * SECOND).await;
        assert_eq!(next(&progress), None, "now the client waits");
        drop(running);
        assert_eq!(next(&progress), Some((75, TimeoutKind::Idle)));
        tokio::time::advance(70 * SECOND).await;
        progress.on_read(b"G");
        tokio::time::advance(4 * SECOND).await;
        progress.on_read(b"G");
        assert_eq!(next(&progress), Some((1, TimeoutKind::Head)), "each byte gives no more time");
        progress.on_read(b"ET / HTTP/1.1\r\n\r\n");
        drop(progress.start_request(0));
        assert_eq!(next(&progress), Some((75, TimeoutKind::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn pipelined_head_is_timed_from_the_response() {
        let progress = connection(ProtocolState::H1(NextRequestDetector::default()));
        progress.on_read(b"POST / HTTP/1.1\r\n\r\n{}GET");
        let running = progress.start_request(2);
        tokio::time::advance(100 * SECOND).await;
        assert_eq!(next(&progress), None, "now the client waits");
        drop(running);
        tokio::time::advance(SECOND).await;
        progress.on_read(b" ");
        assert_eq!(next(&progress), Some((4, TimeoutKind::Head)));
        progress.on_read(b"/ HTTP/1.1\r\n\r\n");
        drop(progress.start_request(0));
        assert_eq!(next(&progress), Some((75, TimeoutKind::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn partial_frame_is_timed_while_requests_run() {
        const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let progress = connection(ProtocolState::H2(FrameTracker::default()));
        progress.on_read(&[0; 24]);
        drop(progress.start_request(0));
        progress.on_read(PING);
        assert_eq!(next(&progress), Some((75, TimeoutKind::Idle)));
        progress.on_read(&PING[..10]);
        let running = progress.start_request(0);
        tokio::time::advance(4 * SECOND).await;
        progress.on_read(&PING[10..11]);
        assert_eq!(next(&progress), Some((1, TimeoutKind::Head)));
        progress.on_read(&PING[11..]);
        assert_eq!(next(&progress), None, "now the client waits");
        drop(running);
        assert_eq!(next(&progress), Some((75, TimeoutKind::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn partial_frame_is_not_timed_while_writes_block() {
        let progress = connection(ProtocolState::H2(FrameTracker::default()));
        progress.on_read(&[0; 25]);
        progress.on_write_blocked();
        tokio::time::advance(20 * SECOND).await;
        assert_eq!(next(&progress), Some((10, TimeoutKind::Write)));
        progress.on_write_progress();
        assert_eq!(next(&progress), Some((5, TimeoutKind::Head)));
        tokio::time::advance(SECOND).await;
        progress.on_write_progress();
        assert_eq!(next(&progress), Some((4, TimeoutKind::Head)));
    }

    #[tokio::test(start_paused = true)]
    async fn blocked_write_times_out_while_requests_run() {
        let progress = connection(ProtocolState::H1(NextRequestDetector::default()));
        let running = progress.start_request(0);
        progress.on_write_blocked();
        tokio::time::advance(10 * SECOND).await;
        progress.on_write_blocked();
        assert_eq!(next(&progress), Some((20, TimeoutKind::Write)));
        progress.on_write_progress();
        assert_eq!(next(&progress), None);
        progress.on_write_blocked();
        drop(running);
        assert_eq!(next(&progress), Some((30, TimeoutKind::Write)), "before it is idle");
    }

    #[tokio::test(start_paused = true)]
    async fn undecoded_bytes_start_the_time_of_a_head_on_an_idle_connection_only() {
        for came in [
            ProtocolState::H1(NextRequestDetector::default()),
            ProtocolState::H2(FrameTracker::default()),
        ] {
            let progress = connection(came);
            let running = progress.start_request(0);
            progress.undecoded.on_bytes();
            tokio::time::advance(100 * SECOND).await;
            assert_eq!(next(&progress), None, "a request runs: its own limits hold");
            drop(running);
            tokio::time::advance(SECOND).await;
            progress.undecoded.on_bytes();
            assert_eq!(
                next(&progress),
                Some((4, TimeoutKind::Head)),
                "each byte gives no more time"
            );
            progress.on_write_blocked();
            assert_eq!(next(&progress), Some((30, TimeoutKind::Write)), "the rest may be there");
            progress.on_write_progress();
            assert_eq!(next(&progress), Some((5, TimeoutKind::Head)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_head_begins_with_its_first_undecoded_byte() {
        for (came, begins) in [
            (ProtocolState::H1(NextRequestDetector::default()), &b"GET"[..]),
            (ProtocolState::H2(FrameTracker::default()), &[0; 25]),
        ] {
            let progress = connection(came);
            drop(progress.start_request(0));
            progress.undecoded.on_bytes();
            tokio::time::advance(3 * SECOND).await;
            progress.on_read(begins);
            assert_eq!(next(&progress), Some((2, TimeoutKind::Head)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whole_frames_in_whole_records_leave_an_http2_connection_idle() {
        const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let progress = connection(ProtocolState::H2(FrameTracker::default()));
        progress.on_read(&[0; 24]);
        drop(progress.start_request(0));
        progress.undecoded.on_bytes();
        tokio::time::advance(SECOND).await;
        progress.on_read(PING);
        assert_eq!(next(&progress), Some((74, TimeoutKind::Idle)));
    }
}
