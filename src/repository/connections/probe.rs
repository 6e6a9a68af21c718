//! Data that the database server reports about itself.

use chrono::{DateTime, Utc};

use sqlx::postgres::PgExecutor;

use crate::repository::Error;
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
    is_session_read_only(pool).await
}

/// The same on one connection.
pub(super) async fn is_session_read_only(executor: impl PgExecutor<'_>) -> Result<bool, Error> {
    let is_read_only = sqlx::query_scalar!(
        r#"select current_setting('transaction_read_only')::bool as "read_only!""#
    )
    .fetch_one(executor)
    .await?;
    Ok(is_read_only)
}

/// A text that differs for any two databases of Muster, and stays the same while servers run. `None` if
/// the database has no tables of Muster.
///
/// # Errors
/// When the server does not respond.
pub async fn identity(pool: &Pool) -> Result<Option<String>, Error> {
    // The table belongs to sqlx and exists only after the first migration.
    let found = sqlx::query_scalar(
        "select format('%s/%s/%s', (select oid from pg_database where datname = current_database()),
                       to_regclass('_sqlx_migrations')::oid, extract(epoch from min(installed_on)))
         from _sqlx_migrations",
    );
    match found.fetch_one(pool).await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => Ok(None),
        found => Ok(Some(found?)),
    }
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
