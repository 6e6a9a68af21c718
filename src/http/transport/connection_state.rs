//! The state of a connection, and its deadlines. No sockets here, only times.
//!
//! The framework limits the first header section of a connection only, and does not know the
//! handshake. The limits here are for later header sections, for connections without a request, and
//! for clients that do not read.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::connection_slots::Occupant;
use super::connection_timeouts::{ConnectionTimeouts, TimeoutKind};
use super::disconnect::DisconnectSignal;
use super::graceful_shutdown::RequestCounter;
use super::h1_message_tracker::MessageTracker;
use super::h2_frame_tracker::{FrameTracker, Remainder};
use super::open_requests::OpenRequests;
use super::pending_headers::PendingHeaders;
use super::read_allowance::ReadAllowance;
use super::undecoded_bytes::UndecodedBytes;
use crate::metrics::CloseReason;

/// How much later than in the framework the first header section times out here, so that the
/// framework can answer 408. The framework's time starts after the TLS handshake, which may be late
/// already.
const HEADER_GRACE: Duration = Duration::from_millis(500);

/// How long a connection of a closing server may still bring a request, if it has not had one yet or
/// if one has begun to arrive.
const LAST_REQUEST_TIMEOUT: Duration = Duration::from_millis(500);

/// The received bytes, by protocol.
#[derive(Debug)]
pub(super) enum ProtocolState {
    /// Over HTTP/1, bytes after a whole request are the beginning of another one.
    H1(MessageTracker),
    /// Over HTTP/2, an incomplete frame is awaited even while requests run.
    H2(FrameTracker),
}

/// One connection, shared by its socket and its requests.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    timeouts: ConnectionTimeouts,
    /// When the handshake began.
    opened_at: Instant,
    requests: OpenRequests,
    /// Whether a request has arrived on this connection.
    had_request: Cell<bool>,
    /// Since when no request runs.
    idle_since: Cell<Instant>,
    /// Since when the rest of a header section or a frame is awaited.
    header_started_at: Cell<Option<Instant>>,
    protocol: RefCell<ProtocolState>,
    undecoded: Rc<UndecodedBytes>,
    headers: PendingHeaders,
    /// The bytes of the header section of the running HTTP/1 request.
    running_header: Cell<usize>,
    occupant: Rc<Occupant>,
    /// Since when the socket accepts no bytes.
    write_blocked_since: Cell<Option<Instant>>,
    read_allowance: ReadAllowance,
    disconnect: Rc<DisconnectSignal>,
    close_reason: Cell<Option<CloseReason>>,
}

/// Marks a request as running until it is dropped, when its response is complete. The request stays in
/// flight until the response has been written to the socket.
#[derive(Debug)]
pub(crate) struct ActiveRequest(Rc<ConnectionState>);

impl ConnectionState {
    /// The state of a connection whose handshake began at `opened_at` and has ended.
    pub(super) fn new(
        timeouts: ConnectionTimeouts,
        opened_at: Instant,
        protocol: ProtocolState,
        undecoded: Rc<UndecodedBytes>,
        headers: PendingHeaders,
        occupant: Rc<Occupant>,
        counter: Rc<RequestCounter>,
    ) -> Rc<Self> {
        Rc::new(Self {
            timeouts,
            opened_at,
            requests: OpenRequests::new(counter),
            had_request: Cell::default(),
            idle_since: Cell::new(Instant::now()),
            header_started_at: Cell::default(),
            protocol: RefCell::new(protocol),
            undecoded,
            headers,
            running_header: Cell::default(),
            occupant,
            write_blocked_since: Cell::default(),
            read_allowance: ReadAllowance::new(timeouts.write),
            disconnect: Rc::default(),
            close_reason: Cell::default(),
        })
    }

    /// The deadline of the TLS handshake and the first header section, which share one timeout.
    pub(super) fn handshake_deadline(&self) -> Instant {
        self.opened_at + self.timeouts.header
    }

    /// Records bytes that were read. Those of a request that must be refused are spoiled. Returns
    /// whether the headers fit into the memory for them.
    pub(super) fn on_read(&self, bytes: &mut [u8]) -> bool {
        let since = self.undecoded.decoded().unwrap_or_else(Instant::now);
        let pending = match &mut *self.protocol.borrow_mut() {
            ProtocolState::H1(messages) => {
                messages.add(bytes);
                let is_idle = !self.requests.is_running() && self.had_request.get();
                if is_idle && self.header_started_at.get().is_none() {
                    self.header_started_at.set(Some(since));
                }
                messages.pending_len() + self.running_header.get()
            }
            ProtocolState::H2(frames) => {
                match frames.add(bytes) {
                    Remainder::None => self.header_started_at.set(None),
                    Remainder::New => self.header_started_at.set(Some(since)),
                    Remainder::Same => {}
                }
                frames.unfinished_len()
            }
        };
        self.headers.set_len(pending)
    }

    /// The signal that the client of the connection is gone.
    pub(crate) fn disconnect_signal(&self) -> &Rc<DisconnectSignal> {
        &self.disconnect
    }

    /// The connection, as one of those that share the slots of the thread.
    pub(super) fn occupant(&self) -> &Rc<Occupant> {
        &self.occupant
    }

    /// Records that the client sends no more.
    pub(super) fn on_eof(&self) {
        self.disconnect.signal();
    }

    /// Records that the socket accepts no bytes.
    pub(super) fn on_write_blocked(&self) {
        if self.write_blocked_since.get().is_none() {
            self.write_blocked_since.set(Some(Instant::now()));
        }
    }

    /// Records that the socket accepted a number of bytes.
    pub(super) fn on_write_progress(&self, bytes: usize) {
        let blocked_since = self.write_blocked_since.take();
        self.read_allowance.spend(blocked_since.map_or(Duration::ZERO, |since| since.elapsed()));
        self.read_allowance.earn(bytes);
        if blocked_since.is_none() {
            return;
        }
        self.undecoded.restart_if_any();
        if self.header_started_at.get().is_some() && self.is_h2() {
            self.header_started_at.set(Some(Instant::now()));
        }
    }

    /// Records that the socket has all bytes. Over HTTP/1, all complete responses are written then.
    /// HTTP/2 has a queue of its own, which only `http2` knows.
    pub(super) fn on_flushed(&self) {
        if !self.is_h2() {
            self.requests.on_written();
        }
    }

    /// The requests in flight.
    pub(super) fn requests(&self) -> &OpenRequests {
        &self.requests
    }

    /// Whether the socket accepts no bytes, so responses wait.
    pub(super) fn is_write_blocked(&self) -> bool {
        self.write_blocked_since.get().is_some()
    }

    /// Whether the server closes its connections.
    pub(super) fn is_closing(&self) -> bool {
        self.occupant.closing_started_at().is_some()
    }

    /// When the connection closes because the server does.
    fn closing_at(&self) -> Option<Instant> {
        let since = self.occupant.closing_started_at()?;
        if self.requests.is_in_flight() {
            return None;
        }
        let begun_at = self.header_started_at.get().or(self.undecoded.started_at());
        let is_quiet = self.had_request.get() && begun_at.is_none();
        Some(if is_quiet { since } else { since + LAST_REQUEST_TIMEOUT })
    }

    /// Whether the first header section is awaited. Over HTTP/2, each frame is awaited instead.
    fn awaits_first_header(&self) -> bool {
        !self.had_request.get() && !self.is_h2()
    }

    fn is_h2(&self) -> bool {
        matches!(*self.protocol.borrow(), ProtocolState::H2(_))
    }

    /// Records the start of a request.
    pub(crate) fn start_request(self: &Rc<Self>) -> ActiveRequest {
        if let ProtocolState::H1(messages) = &mut *self.protocol.borrow_mut() {
            self.header_started_at.set(None);
            let before = messages.pending_len();
            messages.on_request_start();
            // The framework keeps the header section of a request as long as the request runs.
            self.running_header.set(before - messages.pending_len());
        }
        self.had_request.set(true);
        self.occupant.set_busy();
        self.requests.on_start();
        ActiveRequest(self.clone())
    }

    /// The next deadline, and the step that is too slow then.
    pub(super) fn deadline(&self) -> Option<(Instant, TimeoutKind)> {
        let blocked_since = self.write_blocked_since.get();
        let read_timeout = self.read_allowance.left();
        let write = blocked_since.map(|since| (since + read_timeout, TimeoutKind::Write));
        let request = match self.header_started_at.get() {
            // Frames are not read while writes are blocked: the rest may have arrived.
            Some(_) if blocked_since.is_some() && self.is_h2() => None,
            Some(since) => Some((since + self.timeouts.header, TimeoutKind::Header)),
            None if self.requests.is_running() => None,
            None if self.awaits_first_header() => {
                Some((self.handshake_deadline() + HEADER_GRACE, TimeoutKind::Header))
            }
            None => Some(match self.undecoded.started_at() {
                Some(since) if blocked_since.is_none() => {
                    (since + self.timeouts.header, TimeoutKind::Header)
                }
                _ => (self.idle_since.get() + self.timeouts.idle, TimeoutKind::Idle),
            }),
        };
        let closing = self.closing_at().map(|at| (at, TimeoutKind::Idle));
        write.into_iter().chain(request).chain(closing).min_by_key(|(at, _)| *at)
    }

    /// Records why the connection is closed early; the first reason counts.
    pub(crate) fn set_close_reason(&self, reason: CloseReason) {
        if self.close_reason.get().is_none() {
            self.close_reason.set(Some(reason));
        }
    }

    /// Records that the client exceeded a timeout.
    pub(super) fn on_timeout(&self, kind: TimeoutKind) {
        match kind {
            TimeoutKind::Header => self.set_close_reason(CloseReason::Header),
            TimeoutKind::Write => self.set_close_reason(CloseReason::Write),
            TimeoutKind::Idle => {}
        }
    }

    /// Why the server closed the connection early, if it did. The framework does not report a first
    /// header section that timed out: the connection then ends without an error and without a
    /// request, while the client is still there.
    pub(super) fn close_reason(&self, ended_well: bool) -> Option<CloseReason> {
        let first_header_timed_out = ended_well
            && self.awaits_first_header()
            && !self.disconnect.is_disconnected()
            && !self.is_closing();
        self.close_reason.get().or(first_header_timed_out.then_some(CloseReason::Header))
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.requests.on_complete();
        if self.0.requests.is_running() {
            return;
        }
        let now = Instant::now();
        self.0.occupant.set_idle();
        self.0.idle_since.set(now);
        self.0.undecoded.restart_if_any();
        let ProtocolState::H1(messages) = &*self.0.protocol.borrow() else { return };
        self.0.running_header.set(0);
        self.0.headers.set_len(messages.pending_len());
        // A part of the next request may have arrived with this one.
        if messages.next_request_started() {
            self.0.header_started_at.set(Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::graceful_shutdown::GracefulShutdown;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn connection(protocol: ProtocolState) -> Rc<ConnectionState> {
        let timeouts =
            ConnectionTimeouts { header: 5 * SECOND, write: 30 * SECOND, idle: 75 * SECOND };
        let (occupant, headers) = (Occupant::for_tests(), PendingHeaders::for_tests());
        let undecoded = Rc::default();
        let counter = Rc::new(Arc::<GracefulShutdown>::default().counter());
        ConnectionState::new(
            timeouts,
            Instant::now(),
            protocol,
            undecoded,
            headers,
            occupant,
            counter,
        )
    }

    fn read(state: &ConnectionState, bytes: &[u8]) {
        assert!(state.on_read(&mut bytes.to_vec()));
    }

    /// The next step that is too slow, and in how many seconds.
    fn next(state: &ConnectionState) -> Option<(u64, TimeoutKind)> {
        let (at, kind) = state.deadline()?;
        Some((at.duration_since(Instant::now()).as_secs(), kind))
    }

    #[tokio::test(start_paused = true)]
    async fn idle_timeout_is_long_and_header_timeout_short() {
        let state = connection(ProtocolState::H1(MessageTracker::default()));
        read(&state, b"G");
        tokio::time::advance(SECOND).await;
        assert_eq!(next(&state), Some((4, TimeoutKind::Header)), "the handshake included");
        read(&state, b"ET / HTTP/1.1\r\n\r\n");
        let running = state.start_request();
        tokio::time::advance(100 * SECOND).await;
        assert_eq!(next(&state), None, "the client waits");
        drop(running);
        assert_eq!(next(&state), Some((75, TimeoutKind::Idle)));
        tokio::time::advance(70 * SECOND).await;
        read(&state, b"G");
        tokio::time::advance(4 * SECOND).await;
        read(&state, b"G");
        assert_eq!(next(&state), Some((1, TimeoutKind::Header)), "each byte gives no more time");
        read(&state, b"ET / HTTP/1.1\r\n\r\n");
        drop(state.start_request());
        assert_eq!(next(&state), Some((75, TimeoutKind::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn pipelined_header_section_is_timed_from_the_response() {
        let state = connection(ProtocolState::H1(MessageTracker::default()));
        read(&state, b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}GET");
        let running = state.start_request();
        tokio::time::advance(100 * SECOND).await;
        assert_eq!(next(&state), None, "the client waits");
        drop(running);
        tokio::time::advance(SECOND).await;
        read(&state, b" ");
        assert_eq!(next(&state), Some((4, TimeoutKind::Header)));
        read(&state, b"/ HTTP/1.1\r\n\r\n");
        drop(state.start_request());
        assert_eq!(next(&state), Some((75, TimeoutKind::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn partial_frame_is_timed_while_requests_run() {
        const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let state = connection(ProtocolState::H2(FrameTracker::default()));
        read(&state, &[0; 24]);
        drop(state.start_request());
        read(&state, PING);
        assert_eq!(next(&state), Some((75, TimeoutKind::Idle)));
        read(&state, &PING[..10]);
        let running = state.start_request();
        tokio::time::advance(4 * SECOND).await;
        read(&state, &PING[10..11]);
        assert_eq!(next(&state), Some((1, TimeoutKind::Header)));
        read(&state, &PING[11..]);
        assert_eq!(next(&state), None, "the client waits");
        drop(running);
        assert_eq!(next(&state), Some((75, TimeoutKind::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn partial_frame_is_not_timed_while_writes_block() {
        let state = connection(ProtocolState::H2(FrameTracker::default()));
        read(&state, &[0; 25]);
        state.on_write_blocked();
        tokio::time::advance(20 * SECOND).await;
        assert_eq!(next(&state), Some((10, TimeoutKind::Write)));
        state.on_write_progress(100_000);
        assert_eq!(next(&state), Some((5, TimeoutKind::Header)));
        tokio::time::advance(SECOND).await;
        state.on_write_progress(100_000);
        assert_eq!(next(&state), Some((4, TimeoutKind::Header)));
    }

    #[tokio::test(start_paused = true)]
    async fn blocked_write_times_out_while_requests_run() {
        let state = connection(ProtocolState::H1(MessageTracker::default()));
        let running = state.start_request();
        state.on_write_blocked();
        tokio::time::advance(10 * SECOND).await;
        state.on_write_blocked();
        assert_eq!(next(&state), Some((20, TimeoutKind::Write)));
        state.on_write_progress(100_000);
        assert_eq!(next(&state), None);
        state.on_write_blocked();
        drop(running);
        assert_eq!(next(&state), Some((30, TimeoutKind::Write)), "the write timeout comes first");
    }

    #[tokio::test(start_paused = true)]
    async fn single_bytes_do_not_restart_the_write_timeout() {
        let state = connection(ProtocolState::H1(MessageTracker::default()));
        let _running = state.start_request();
        for left in [30, 15] {
            state.on_write_blocked();
            assert_eq!(next(&state), Some((left, TimeoutKind::Write)));
            tokio::time::advance(15 * SECOND).await;
            state.on_write_progress(1);
        }
        state.on_write_blocked();
        assert_eq!(next(&state), Some((0, TimeoutKind::Write)));
        // A reader that is slow, but not so slow, has its time again.
        state.on_write_progress(20 * 240);
        state.on_write_blocked();
        assert_eq!(next(&state), Some((20, TimeoutKind::Write)));
    }

    #[test]
    fn header_of_a_running_request_counts() {
        let state = connection(ProtocolState::H1(MessageTracker::default()));
        let header = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(8_000));
        for _ in 0..2 {
            read(&state, header.as_bytes());
            let running = state.start_request();
            assert_eq!(state.headers.counted(), header.len() as u64);
            read(&state, header.as_bytes());
            assert_eq!(state.headers.counted(), 2 * header.len() as u64);
            drop(running);
            drop(state.start_request());
            assert_eq!(state.headers.counted(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn undecoded_bytes_start_the_time_of_a_header_section_on_an_idle_connection_only() {
        for protocol in [
            ProtocolState::H1(MessageTracker::default()),
            ProtocolState::H2(FrameTracker::default()),
        ] {
            let state = connection(protocol);
            let running = state.start_request();
            state.undecoded.on_bytes();
            tokio::time::advance(100 * SECOND).await;
            assert_eq!(next(&state), None, "a request runs: its own limits hold");
            drop(running);
            tokio::time::advance(SECOND).await;
            state.undecoded.on_bytes();
            let expected = Some((4, TimeoutKind::Header));
            assert_eq!(next(&state), expected, "each byte gives no more time");
            state.on_write_blocked();
            assert_eq!(next(&state), Some((30, TimeoutKind::Write)), "the rest may be there");
            state.on_write_progress(100_000);
            assert_eq!(next(&state), Some((5, TimeoutKind::Header)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_header_section_begins_with_its_first_undecoded_byte() {
        for (protocol, begins) in [
            (ProtocolState::H1(MessageTracker::default()), &b"GET"[..]),
            (ProtocolState::H2(FrameTracker::default()), &[0; 25]),
        ] {
            let state = connection(protocol);
            drop(state.start_request());
            state.undecoded.on_bytes();
            tokio::time::advance(3 * SECOND).await;
            read(&state, begins);
            assert_eq!(next(&state), Some((2, TimeoutKind::Header)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whole_frames_in_whole_records_leave_an_http2_connection_idle() {
        const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let state = connection(ProtocolState::H2(FrameTracker::default()));
        read(&state, &[0; 24]);
        drop(state.start_request());
        state.undecoded.on_bytes();
        tokio::time::advance(SECOND).await;
        read(&state, PING);
        assert_eq!(next(&state), Some((74, TimeoutKind::Idle)));
    }

    #[test]
    fn flush_writes_the_responses_of_http1_only() {
        let h1 = connection(ProtocolState::H1(MessageTracker::default()));
        drop(h1.start_request());
        h1.on_flushed();
        assert!(!h1.requests.is_in_flight());
        let h2 = connection(ProtocolState::H2(FrameTracker::default()));
        drop(h2.start_request());
        h2.on_flushed();
        assert!(h2.requests.is_in_flight(), "the response may be in a queue of HTTP/2");
        assert!(h2.requests.on_written());
        assert!(!h2.requests.is_in_flight());
    }

    #[tokio::test(start_paused = true)]
    async fn closing_server_closes_connections_that_owe_no_response() {
        for protocol in [
            ProtocolState::H1(MessageTracker::default()),
            ProtocolState::H2(FrameTracker::default()),
        ] {
            let state = connection(protocol);
            let running = state.start_request();
            state.occupant.close_connections();
            assert_eq!(next(&state), None, "the client waits");
            drop(running);
            assert_eq!(next(&state), Some((75, TimeoutKind::Idle)), "the response is not written");
            state.requests.on_written();
            assert_eq!(next(&state), Some((0, TimeoutKind::Idle)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn request_that_arrives_at_a_closing_server_has_a_moment() {
        let closing_in = |state: &ConnectionState| {
            let (at, kind) = state.deadline().unwrap();
            assert_eq!(kind, TimeoutKind::Idle);
            at.duration_since(Instant::now())
        };
        let fresh = connection(ProtocolState::H1(MessageTracker::default()));
        fresh.occupant.close_connections();
        assert_eq!(closing_in(&fresh), LAST_REQUEST_TIMEOUT);
        assert_eq!(fresh.close_reason(true), None, "no client was too slow");

        let begun = connection(ProtocolState::H1(MessageTracker::default()));
        read(&begun, b"GET / HTTP/1.1\r\n\r\n");
        drop(begun.start_request());
        begun.on_flushed();
        read(&begun, b"GET");
        begun.occupant.close_connections();
        assert_eq!(closing_in(&begun), LAST_REQUEST_TIMEOUT);
        tokio::time::advance(LAST_REQUEST_TIMEOUT / 2).await;
        read(&begun, b" / HTTP/1.1\r\n\r\n");
        let running = begun.start_request();
        assert_eq!(next(&begun), None, "the client waits");
        drop(running);
        begun.on_flushed();
        assert_eq!(closing_in(&begun), Duration::ZERO);
    }
}
