//! Connections to PostgreSQL.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

pub use super::pool_limits::PoolLimits;

use super::Error;
use crate::repository::Pool;

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
    Pool::new(options, limits)
}

/// A pool that opens no connection, for tests of its users.
#[cfg(test)]
pub(crate) fn unused(limits: PoolLimits) -> Pool {
    connect(PgConnectOptions::new_without_pgpass(), limits)
}
