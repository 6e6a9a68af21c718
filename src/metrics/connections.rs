//! Connections of clients, and how many the server closed early. The end of a connection that was idle
//! for too long does not count.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::{Counter, Gauge};

const CLOSE_REASONS: [(CloseReason, &str); 8] = [
    (CloseReason::Handshake, "handshake"),
    (CloseReason::Header, "header"),
    (CloseReason::Body, "body"),
    (CloseReason::Write, "write"),
    (CloseReason::Address, "address"),
    (CloseReason::Evicted, "evicted"),
    (CloseReason::Memory, "memory"),
    (CloseReason::Protocol, "protocol"),
];

/// The connections of a server.
#[derive(Debug, Default)]
pub struct Connections {
    pub(super) open: Gauge,
    /// The maximum number of open connections.
    pub max: AtomicU64,
    /// When the current certificate expires, as a Unix time; 0 without TLS.
    pub certificate_not_after: AtomicI64,
    closed: [Counter; CLOSE_REASONS.len()],
    /// HTTP/2 requests that were refused or reset because they did not fit into the memory for them.
    pub rejected_streams: Counter,
}

/// Why the server closed a connection: the step that was too slow, what there is too much of, or that
/// the client broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The handshake: TLS, which may also have failed, or the detection of the HTTP version.
    Handshake,
    /// Sending a header section, a frame or a TLS record.
    Header,
    /// Sending a body.
    Body,
    /// Reading a response.
    Write,
    /// No step: the address of the client has too many connections.
    Address,
    /// No step: the connection was idle, and another one needed its slot.
    Evicted,
    /// No step: the headers or requests that the client sent did not fit into the memory for them.
    Memory,
    /// No step: the client violated HTTP/2, or sent too many requests that it was not allowed to send.
    Protocol,
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub struct OpenConnection<'a>(&'a Connections);

impl Connections {
    /// Counts a connection as open.
    #[must_use]
    pub fn open(&self) -> OpenConnection<'_> {
        self.open.add(1);
        OpenConnection(self)
    }

    /// Counts a connection that the server closed early.
    pub fn record_closed(&self, reason: CloseReason) {
        self.closed[reason as usize].inc();
    }

    /// The number of closed connections, by reason.
    pub(super) fn closed(&self) -> [(&'static str, u64); CLOSE_REASONS.len()] {
        CLOSE_REASONS.map(|(reason, label)| (label, self.closed[reason as usize].value()))
    }

    pub(super) fn certificate_not_after(&self) -> i64 {
        self.certificate_not_after.load(Ordering::Relaxed)
    }

    pub(super) fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.open.add(-1);
    }
}
