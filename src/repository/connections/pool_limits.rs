//! The limits of the connections to PostgreSQL.

use std::time::Duration;

use crate::config::Settings;

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

impl PoolLimits {
    /// The limits of the configuration. A request must get a connection and its statement must end
    /// while there is still time to send the response.
    #[must_use]
    pub fn from_settings(settings: &Settings) -> Self {
        let (database, request_timeout) = (&settings.database, settings.server.request_timeout);
        Self {
            max_connections: database.max_connections,
            acquire_timeout: database.acquire_timeout.min(request_timeout / 2),
            statement_timeout: database.statement_timeout.min(request_timeout * 2 / 5),
        }
    }
}
