//! How long to wait for a silent embedded PostgreSQL, by the kind of the waiting process.
//!
//! A PostgreSQL that reports that it starts or recovers is waited for in any case, as long as that
//! takes. These limits are for silence, and for what other processes do.

use std::time::Duration;

/// The limits of one kind of process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartupTimeouts {
    /// For another process to start or stop PostgreSQL.
    pub lock: Duration,
    /// For a PostgreSQL that runs, but answers nothing or "too many connections".
    pub ready: Duration,
}

impl StartupTimeouts {
    /// Of a server, which can do nothing without PostgreSQL.
    pub const SERVER: Self =
        Self { lock: Duration::from_secs(120), ready: Duration::from_secs(30) };
    /// Of a command, with a person waiting for it.
    pub const COMMAND: Self =
        Self { lock: Duration::from_secs(120), ready: Duration::from_secs(10) };
    /// Of a check whether PostgreSQL answers.
    pub const PROBE: Self = Self { lock: Duration::from_secs(5), ready: Duration::from_secs(5) };
}
