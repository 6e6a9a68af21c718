//! Connections to PostgreSQL.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};

use super::Error;
use crate::repository::PgPool;

/// How much longer than PostgreSQL may take its answer may take. Who does not answer by then is not
/// there any more, and nothing else would say so.
pub(super) const MARGIN: Duration = Duration::from_secs(1);

/// How many connections there are, and how long they may be waited for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest number of connections.
    pub max_connections: u32,
    /// How long a request waits for one.
    pub acquire_timeout: Duration,
    /// How long the database works on one statement before it gives up.
    pub statement_timeout: Duration,
}

/// Connects once, so that what is in the way is told as it is: a pool only says that it waited.
///
/// # Errors
/// What the connection failed with.
pub async fn reach(options: &PgConnectOptions, within: Duration) -> Result<(), Error> {
    let connected = tokio::time::timeout(within, PgConnection::connect_with(options)).await;
    let connection = connected.map_err(|_| Error::Unanswered(within))??;
    connection.close().await?;
    Ok(())
}

/// A pool that connects when first used.
#[must_use]
pub fn connect(options: PgConnectOptions, limits: Limits) -> PgPool {
    let statement_timeout = limits.statement_timeout.as_millis().to_string();
    let options = options.application_name("muster").options([
        ("statement_timeout", statement_timeout.as_str()),
        // Who began a transaction and then vanished must not keep others from its sessions.
        ("idle_in_transaction_session_timeout", statement_timeout.as_str()),
        // PostgreSQL looks after two minutes whether a silent client is still there, not after two
        // hours.
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
        // The pool asks without a limit whether a connection still lives, and one that is silent
        // would keep its place for ever. So it is asked here first.
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(is_alive(connection)))
        .after_release(|connection, _| Box::pin(is_alive(connection)))
        .connect_lazy_with(options);
    // Behind the deadline of a request, which knows better what to say.
    PgPool::new(pool, limits.statement_timeout + 2 * MARGIN)
}

async fn is_alive(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(MARGIN, connection.ping()).await {
        Ok(answered) => answered.map(|()| true),
        // An error, because a good-bye would not arrive either.
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}
