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
use super::disconnect::DisconnectSignal;
use super::h1_message_tracker::MessageTracker;
use super::h2_frame_tracker::{FrameTracker, Remainder};
use super::pending_headers::PendingHeaders;
use crate::metrics::CloseReason;

/// How much later than in the framework the first header section times out here, so that the
/// framework can answer 408. The framework's time starts after the TLS handshake, which may be late
/// already.
const HEADER_GRACE: Duration = Duration::from_millis(500);

/// The timeouts of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionTimeouts {
    /// For the rest of a header section.
    pub(super) header: Duration,
    /// For reading more of a response.
    pub(super) write: Duration,
    /// For the next request.
    pub(super) idle: Duration,
}

/// The step that a client is too slow with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeoutKind {
    /// Sending the first header section, or the rest of a header section, a frame or a TLS record.
    Header,
    /// Sending the next request.
    Idle,
    /// Reading a response.
    Write,
}

/// The received bytes, by protocol.
#[derive(Debug)]
pub(super) enum ProtocolState {
    /// Over HTTP/1, bytes after a whole request are the beginning of another one.
    H1(MessageTracker),
    /// Over HTTP/2, an incomplete frame is awaited even while requests run.
    H2(FrameTracker),
}

/// Bytes below TLS that have produced no byte above TLS yet, so they may be a partial record.
/// Without TLS there are no such bytes.
///
/// The surprise: the beginning of a record that comes in one read with the end of another one is
/// not noticed before its next byte. Records are not parsed here.
#[derive(Debug, Default)]
pub(super) struct UndecodedBytes {
    /// When the first of these bytes came.
    since: Cell<Option<Instant>>,
}

impl UndecodedBytes {
    /// Records bytes below TLS.
    pub(super) fn on_bytes(&self) {
        if self.since.get().is_none() {
            self.restart();
        }
    }

    /// Records bytes above TLS. Returns when the first of them came below TLS.
    pub(super) fn decoded(&self) -> Option<Instant> {
        self.since.take()
    }

    /// Restarts the time of the bytes, if there are any.
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
    /// When the handshake began.
    opened_at: Instant,
    /// Requests whose responses have not been sent yet.
    active_requests: Cell<usize>,
    /// Whether a request has arrived on this connection.
    had_request: Cell<bool>,
    /// Since when no request runs.
    idle_since: Cell<Instant>,
    /// Since when the rest of a header section or a frame is awaited.
    header_started_at: Cell<Option<Instant>>,
    protocol: RefCell<ProtocolState>,
    undecoded: Rc<UndecodedBytes>,
    headers: PendingHeaders,
    occupant: Rc<Occupant>,
    /// Since when the socket accepts no bytes.
    write_blocked_since: Cell<Option<Instant>>,
    disconnect: Rc<DisconnectSignal>,
    close_reason: Cell<Option<CloseReason>>,
}

/// Marks a request as running until it is dropped.
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
    ) -> Rc<Self> {
        Rc::new(Self {
            timeouts,
            opened_at,
            active_requests: Cell::default(),
            had_request: Cell::default(),
            idle_since: Cell::new(Instant::now()),
            header_started_at: Cell::default(),
            protocol: RefCell::new(protocol),
            undecoded,
            headers,
            occupant,
            write_blocked_since: Cell::default(),
            disconnect: Rc::default(),
            close_reason: Cell::default(),
        })
    }

    /// The deadline of the TLS handshake and the first header section, which share one timeout.
    pub(super) fn handshake_deadline(&self) -> Instant {
        self.opened_at + self.timeouts.header
    }

    /// Records bytes that were read. Those of a request that must be refused are spoiled. Returns
    /// whether the headers that have not led to a request yet fit into the memory for them.
    pub(super) fn on_read(&self, bytes: &mut [u8]) -> bool {
        let since = self.undecoded.decoded().unwrap_or_else(Instant::now);
        let pending = match &mut *self.protocol.borrow_mut() {
            ProtocolState::H1(messages) => {
                messages.add(bytes);
                let is_idle = self.active_requests.get() == 0 && self.had_request.get();
                if is_idle && self.header_started_at.get().is_none() {
                    self.header_started_at.set(Some(since));
                }
                messages.pending_len()
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

    /// The connection, as one of those that share the places of the thread.
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

    /// Records that the socket accepted bytes.
    pub(super) fn on_write_progress(&self) {
        if self.write_blocked_since.take().is_none() {
            return;
        }
        self.undecoded.restart_if_any();
        if self.header_started_at.get().is_some() && self.is_h2() {
            self.header_started_at.set(Some(Instant::now()));
        }
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
            messages.on_request_start();
            self.headers.set_len(messages.pending_len());
        }
        self.had_request.set(true);
        self.occupant.set_busy();
        self.active_requests.set(self.active_requests.get() + 1);
        ActiveRequest(self.clone())
    }

    /// The next deadline, and the step that is too slow then.
    pub(super) fn deadline(&self) -> Option<(Instant, TimeoutKind)> {
        let blocked_since = self.write_blocked_since.get();
        let write = blocked_since.map(|since| (since + self.timeouts.write, TimeoutKind::Write));
        let request = match self.header_started_at.get() {
            // Frames are not read while writes are blocked: the rest may have arrived.
            Some(_) if blocked_since.is_some() && self.is_h2() => None,
            Some(since) => Some((since + self.timeouts.header, TimeoutKind::Header)),
            None if self.active_requests.get() > 0 => None,
            None if self.awaits_first_header() => {
                Some((self.handshake_deadline() + HEADER_GRACE, TimeoutKind::Header))
            }
            None => Some(match self.undecoded.since.get() {
                Some(since) if blocked_since.is_none() => {
                    (since + self.timeouts.header, TimeoutKind::Header)
                }
                _ => (self.idle_since.get() + self.timeouts.idle, TimeoutKind::Idle),
            }),
        };
        write.into_iter().chain(request).min_by_key(|(at, _)| *at)
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
        let first_header_timed_out =
            ended_well && self.awaits_first_header() && !self.disconnect.is_disconnected();
        self.close_reason.get().or(first_header_timed_out.then_some(CloseReason::Header))
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
        self.0.occupant.set_idle();
        self.0.idle_since.set(now);
        self.0.undecoded.restart_if_any();
        // A part of the next request may have arrived with this one.
        if matches!(&*self.0.protocol.borrow(), ProtocolState::H1(messages) if messages.next_request_started())
        {
            self.0.header_started_at.set(Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn connection(protocol: ProtocolState) -> Rc<ConnectionState> {
        let timeouts =
            ConnectionTimeouts { header: 5 * SECOND, write: 30 * SECOND, idle: 75 * SECOND };
        let occupant = Occupant::for_tests();
        let headers = PendingHeaders::for_tests();
        ConnectionState::new(timeouts, Instant::now(), protocol, Rc::default(), headers, occupant)
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
        state.on_write_progress();
        assert_eq!(next(&state), Some((5, TimeoutKind::Header)));
        tokio::time::advance(SECOND).await;
        state.on_write_progress();
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
        state.on_write_progress();
        assert_eq!(next(&state), None);
        state.on_write_blocked();
        drop(running);
        assert_eq!(next(&state), Some((30, TimeoutKind::Write)), "the write timeout comes first");
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
            state.on_write_progress();
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
}
