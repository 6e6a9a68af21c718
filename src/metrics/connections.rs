//! Connections of clients, and how many the server closed early. The end of an idle connection does
//! not count.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::{Counter, Level};

/// The connections of a server.
#[derive(Debug, Default)]
pub struct Connections {
    pub(super) open: Level,
    /// How many there may be.
    pub max: AtomicU64,
    /// When the current certificate ends, as a Unix time; 0 without TLS.
    pub certificate_ends: AtomicI64,
    cuts: [Counter; CUTS.len()],
}

/// The step that was too slow when the server closed the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The handshake: TLS, which may also have failed, or the detection of the HTTP version.
    Handshake,
    /// Sending a head, a frame or a TLS record.
    Head,
    /// Sending a body.
    Body,
    /// Taking an answer.
    Write,
}

const CUTS: [(Cut, &str); 4] = [
    (Cut::Handshake, "handshake"),
    (Cut::Head, "head"),
    (Cut::Body, "body"),
    (Cut::Write, "write"),
];

/// A connection that is open until this is dropped.
#[derive(Debug)]
pub struct Open<'a>(&'a Connections);

impl Connections {
    /// Counts one that is open now.
    #[must_use]
    pub fn open(&self) -> Open<'_> {
        self.open.add(1);
        Open(self)
    }

    /// Counts one that was cut off.
    pub fn cut(&self, cut: Cut) {
        self.cuts[cut as usize].inc();
    }

    /// How many were closed, by reason.
    pub(super) fn cuts(&self) -> [(&'static str, u64); CUTS.len()] {
        CUTS.map(|(cut, reason)| (reason, self.cuts[cut as usize].value()))
    }

    pub(super) fn certificate_ends(&self) -> i64 {
        self.certificate_ends.load(Ordering::Relaxed)
    }

    pub(super) fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.add(-1);
    }
}
