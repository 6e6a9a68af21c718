//! Connections to PostgreSQL.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};

use super::Error;
use crate::repository::Pool;

/// How much later than PostgreSQL's own limit an answer may come. A server that has not answered by
/// then is gone, and nothing else would report that.
pub(super) const TIMEOUT_MARGIN: Duration = Duration::from_secs(1);

/// The limits of the pool and of its statements.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// The largest number of connections.
    pub max_connections: u32,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// How long PostgreSQL may work on one statement.
    pub statement_timeout: Duration,
}

/// Connects once, without a pool: a pool reports only that it waited, not why it could not connect.
///
/// # Errors
/// The error of the connection attempt.
pub async fn check_reachable(options: &PgConnectOptions, timeout: Duration) -> Result<(), Error> {
    let connected = tokio::time::timeout(timeout, PgConnection::connect_with(options)).await;
    let connection = connected.map_err(|_| Error::OutcomeUnknown(timeout))??;
    connection.close().await?;
    Ok(())
}

/// A pool that connects when first used.
#[must_use]
pub fn connect(options: PgConnectOptions, limits: PoolLimits) -> Pool {
    let statement_timeout = limits.statement_timeout.as_millis().to_string();
    let options = options.application_name("muster").options([
        ("statement_timeout", statement_timeout.as_str()),
        // A client that vanishes in a transaction must not keep its sessions locked.
        ("idle_in_transaction_session_timeout", statement_timeout.as_str()),
        // PostgreSQL notices a lost client after two minutes, not after two hours.
        ("tcp_keepalives_idle", "60"),
        ("tcp_keepalives_interval", "20"),
        ("tcp_keepalives_count", "3"),
        // Statements here end within milliseconds; compiling one takes half a second, and the
        // planner, which cannot know how few rows a limit leaves, would do it.
        ("jit", "off"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(limits.max_connections)
        .acquire_timeout(limits.acquire_timeout)
        // The pool pings a connection without a timeout, so one that is silent would keep its place
        // for ever. So it is pinged here, with a timeout.
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(is_alive(connection)))
        .after_release(|connection, _| Box::pin(is_alive(connection)))
        .connect_lazy_with(options);
    // Longer than the deadline of a request, whose error is more precise.
    Pool::new(pool, limits.statement_timeout + 2 * TIMEOUT_MARGIN)
}

async fn is_alive(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(TIMEOUT_MARGIN, connection.ping()).await {
        Ok(pong) => pong.map(|()| true),
        // An error closes the connection at once. `false` would send a good-bye first, which would
        // not arrive.
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}
