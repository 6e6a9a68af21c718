//! Time limits for an embedded PostgreSQL that does not respond, by the kind of the waiting
//! process.
//!
//! These limits do not apply to a PostgreSQL that reports a start or a recovery. Such a start has
//! its own, longer limit.

use std::time::Duration;

/// The limits of one kind of process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartupTimeouts {
    /// The limit for another process that starts or stops PostgreSQL.
    pub lock: Duration,
    /// The limit for a PostgreSQL that runs, but does not respond or has too many connections.
    pub ready: Duration,
}

impl StartupTimeouts {
    /// The limits of a server, which cannot work without PostgreSQL.
    pub const SERVER: Self =
        Self { lock: Duration::from_secs(120), ready: Duration::from_secs(30) };
    /// The limits of a command, because a person waits for it.
    pub const COMMAND: Self =
        Self { lock: Duration::from_secs(120), ready: Duration::from_secs(10) };
    /// The limits of a check whether PostgreSQL responds.
    pub const PROBE: Self = Self { lock: Duration::from_secs(5), ready: Duration::from_secs(5) };
}
