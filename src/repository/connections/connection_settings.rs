//! The settings of PostgreSQL on every connection, or in every transaction through a pooler.
//!
//! A role and a database can have defaults of their own for each setting. Those that would change
//! the outcome of a statement, or end a connection of the service, are set here. The options of a
//! connection take precedence over the defaults of its role.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, Error};

/// Settings of a session. They mean nothing inside a transaction.
pub(super) const OF_SESSION: [(&str, &str); 6] = [
    // Statements wait for locks and then see the rows as they are. With a snapshot for the whole
    // transaction, PostgreSQL refuses a change of a row that another server has changed.
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    // Connections of the pool are idle most of the time.
    ("idle_session_timeout", "0"),
    // PostgreSQL detects a lost client after two minutes instead of two hours.
    ("tcp_keepalives_idle", "60"),
    ("tcp_keepalives_interval", "20"),
    ("tcp_keepalives_count", "3"),
];

/// Settings of statements, whose values do not depend on the configuration.
pub(super) const OF_STATEMENTS: [(&str, &str); 4] = [
    // The time limit of a statement also limits its wait for a lock.
    ("lock_timeout", "0"),
    // An error refuses a statement, and does not end the connection.
    ("exit_on_error", "off"),
    // Row level security would hide rows without an error. This makes it an error.
    ("row_security", "off"),
    ("transform_null_equals", "off"),
];

/// A setting that shows whether PostgreSQL got the settings of a connection. A pooler drops them.
pub(super) const MARK: (&str, &str) = ("muster.link", "direct");

/// PostgreSQL knows this setting since version 17, and refuses an unknown one.
const WITHOUT_TRANSACTION_TIMEOUT: &str = "
    select case when current_setting('server_version_num')::int >= 170000
                then set_config('transaction_timeout', '0', false) end";

/// Begins a transaction with these settings, which end with it. Returns the process of PostgreSQL, the
/// begin of the transaction, and the start of the server.
pub(super) fn begin<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let settings: String = settings
        .into_iter()
        .map(|(name, value)| {
            format!(", set_config(E'{}', E'{}', true)", escape(name), escape(value))
        })
        .collect();
    format!(
        "begin transaction isolation level read committed, not deferrable;
         select pg_backend_pid(), now()::text, pg_postmaster_start_time()::text{settings},
                case when current_setting('server_version_num')::int >= 170000
                     then set_config('transaction_timeout', '0', true) end"
    )
}

/// A text inside of `E''`.
fn escape(text: &str) -> String {
    text.replace('\\', r"\\").replace('\'', "''")
}

/// The statement `query` with one more column. Its evaluation makes the settings that depend on the
/// version of PostgreSQL, without a round trip of their own.
pub(super) fn completing(query: &'static str) -> AssertSqlSafe<String> {
    // Both texts are constants.
    AssertSqlSafe(format!("{query}, ({WITHOUT_TRANSACTION_TIMEOUT})"))
}

/// Opens a connection outside of the pool, with options that come from the pool.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub async fn open(options: &PgConnectOptions) -> Result<PgConnection, Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    sqlx::raw_sql(WITHOUT_TRANSACTION_TIMEOUT).execute(&mut connection).await?;
    Ok(connection)
}
