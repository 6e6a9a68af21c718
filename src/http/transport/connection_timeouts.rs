//! The timeouts of a connection, by the step that its client is too slow with.

use std::time::Duration;

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
    /// Sending the next request. Also the end of an idle connection of a closing server.
    Idle,
    /// Reading a response.
    Write,
}
