//! The limits of the connections to PostgreSQL.

use std::time::Duration;

/// The margin by which a response may come later than PostgreSQL's own limit. A server without a
/// response after that time is lost, and no other mechanism would report this.
pub(super) const TIMEOUT_MARGIN: Duration = Duration::from_secs(1);

/// The limits of the pool and of its statements.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// The largest number of connections.
    pub max_connections: u32,
    /// The limit for the wait of a request for a connection.
    pub acquire_timeout: Duration,
    /// The limit for one statement in PostgreSQL.
    pub statement_timeout: Duration,
}
