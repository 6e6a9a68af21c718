//! Connections to PostgreSQL.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};

use super::Error;
use crate::repository::Pool;

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

/// Connects once, without a pool, because a pool reports only a timeout, not the cause of a
/// failure.
///
/// # Errors
/// The error of the connection attempt.
pub async fn check_reachable(options: &PgConnectOptions, timeout: Duration) -> Result<(), Error> {
    let connected = tokio::time::timeout(timeout, PgConnection::connect_with(options)).await;
    let connection = connected.map_err(|_| Error::OutcomeUnknown(timeout))??;
    connection.close().await?;
    Ok(())
}

/// A pool that connects when it is first used.
#[must_use]
pub fn connect(options: PgConnectOptions, limits: PoolLimits) -> Pool {
    let statement_timeout = limits.statement_timeout.as_millis().to_string();
    let options = options.application_name("muster").options([
        ("statement_timeout", statement_timeout.as_str()),
        // A client that vanishes during a transaction must not keep its sessions locked.
        ("idle_in_transaction_session_timeout", statement_timeout.as_str()),
        // PostgreSQL detects a lost client after two minutes instead of two hours.
        ("tcp_keepalives_idle", "60"),
        ("tcp_keepalives_interval", "20"),
        ("tcp_keepalives_count", "3"),
        // Statements here end within milliseconds, but compiling one takes half a second. The
        // planner would compile them, because it does not know how few rows a limit leaves.
        ("jit", "off"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(limits.max_connections)
        .acquire_timeout(limits.acquire_timeout)
        // The pool's own ping has no timeout, so a dead connection would keep its slot for ever.
        // This ping has a timeout.
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(is_alive(connection)))
        .after_release(|connection, _| Box::pin(is_alive(connection)))
        .connect_lazy_with(options);
    // This limit is longer than the deadline of a request, whose error is more precise.
    Pool::new(pool, limits.statement_timeout + 2 * TIMEOUT_MARGIN)
}

async fn is_alive(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(TIMEOUT_MARGIN, connection.ping()).await {
        Ok(pong) => pong.map(|()| true),
        // An error closes the connection at once. `false` would first send a termination message,
        // which would not arrive.
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}
