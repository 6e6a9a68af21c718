//! How long an embedded PostgreSQL may keep silent, by who waits for it.
//!
//! One that says that it starts or recovers is waited for by all of them, for as long as that may
//! take: what is bounded here is silence, and what other processes do.

use std::time::Duration;

/// For how long somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For another process to start or stop PostgreSQL.
    pub turn: Duration,
    /// For a PostgreSQL that runs, but answers nothing or "too many connections".
    pub answer: Duration,
}

impl Patience {
    /// Of what can do nothing without it and has nobody before it.
    pub const SERVER: Self =
        Self { turn: Duration::from_secs(120), answer: Duration::from_secs(30) };
    /// Of a command, before which somebody sits.
    pub const COMMAND: Self =
        Self { turn: Duration::from_secs(120), answer: Duration::from_secs(10) };
    /// Of who only wants to know whether it answers.
    pub const LOOK: Self = Self { turn: Duration::from_secs(5), answer: Duration::from_secs(5) };
}
