//! Data that the database server reports about itself.

use chrono::{DateTime, Utc};

use super::Error;
use crate::repository::Pool;

/// The oldest major version of PostgreSQL that Muster supports.
pub const MIN_VERSION: i32 = 15;

/// A database server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// The version, such as "15.18".
    pub version: String,
    /// The major version.
    pub major: i32,
    /// The time of the server's clock.
    pub now: DateTime<Utc>,
}

/// Reads the version and the clock of the server.
///
/// # Errors
/// When the server does not respond.
pub async fn server(pool: &Pool) -> Result<ServerInfo, Error> {
    let row = sqlx::query!(
        r#"
        select current_setting('server_version') as "version!",
               current_setting('server_version_num')::int / 10000 as "major!",
               clock_timestamp() as "now!"
        "#
    )
    .fetch_one(pool)
    .await?;
    Ok(ServerInfo { version: row.version, major: row.major, now: row.now })
}

/// Whether the database takes no writes: the server is a standby, or
/// `default_transaction_read_only` is on.
///
/// # Errors
/// When the server does not respond.
pub async fn is_read_only(pool: &Pool) -> Result<bool, Error> {
    let is_read_only = sqlx::query_scalar!(
        r#"select current_setting('transaction_read_only')::bool as "read_only!""#
    )
    .fetch_one(pool)
    .await?;
    Ok(is_read_only)
}

/// The size of the database, in bytes.
///
/// # Errors
/// When the server does not respond.
pub async fn size(pool: &Pool) -> Result<u64, Error> {
    let size = sqlx::query_scalar!(r#"select pg_database_size(current_database()) as "size!""#)
        .fetch_one(pool)
        .await?;
    Ok(size.unsigned_abs())
}
