//! Finds out whether a pooler is between Muster and PostgreSQL, and which one.
//!
//! A pooler has no question that tells this to a client. Its behaviour does: it refuses or drops the
//! settings of a connection, and in transaction mode two connections share a session of PostgreSQL.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Error, Executor as _};
use tokio::time::timeout;

use super::connection_settings::MARK;
use super::database_servers::DatabaseServers;
use super::persistent::Persistent;

/// The time limit of a check.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The number of attempts to see a session of PostgreSQL shared. Other clients may use it meanwhile.
const ATTEMPTS: usize = 20;

/// The link between Muster and PostgreSQL, as it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkBehavior {
    /// PostgreSQL gets the settings of a connection: no pooler is between.
    Direct,
    /// A pooler lends a session of PostgreSQL for one transaction, and keeps prepared statements.
    Transactions,
    /// The same, but it keeps no prepared statements.
    WithoutStatements,
    /// A pooler lends a session of PostgreSQL for as long as the client is connected.
    Sessions,
}

/// The message for a link whose pooler is not declared.
const UNDECLARED: &str = "a pooler is between Muster and PostgreSQL: set database.pooler = \
                          \"transaction\", or name PostgreSQL itself in database.url";

/// A mistake of the configuration that a connection shows.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::repository) struct WrongLink(String);

impl From<WrongLink> for Error {
    fn from(wrong: WrongLink) -> Self {
        Self::Configuration(Box::new(wrong))
    }
}

/// Names the remedy of a refusal by a pooler.
pub(super) fn explain_refusal(error: Error) -> Error {
    match error.as_database_error() {
        // protocol_violation: PostgreSQL itself ignores no startup parameter and refuses none so.
        Some(refusal)
            if refusal.code().as_deref() == Some("08P01")
                && refusal.message().contains("startup parameter") =>
        {
            WrongLink(format!("{UNDECLARED} ({})", refusal.message())).into()
        }
        _ => error,
    }
}

/// The error of a connection whose settings did not reach PostgreSQL.
pub(super) fn dropped_settings() -> Error {
    WrongLink(format!("{UNDECLARED} (the settings of the connection were dropped)")).into()
}

/// Finds out how the link to a server behaves.
///
/// # Errors
/// When the database does not answer.
pub(super) async fn probe(servers: &DatabaseServers, index: usize) -> Result<LinkBehavior, Error> {
    timeout(TIMEOUT, probe_servers(servers, index)).await.unwrap_or(Err(Error::PoolTimedOut))
}

async fn probe_servers(servers: &DatabaseServers, index: usize) -> Result<LinkBehavior, Error> {
    if !servers.is_pooled() || accepts_settings(servers, index).await? {
        return Ok(LinkBehavior::Direct);
    }
    let (mut first, mut second) = (servers.connect(index).await?, servers.connect(index).await?);
    let mut behavior = LinkBehavior::Sessions;
    for _ in 0..ATTEMPTS {
        // Each text is prepared under the same name by both.
        let (one, other) = (prepared(&mut first, 1).await, prepared(&mut second, 2).await);
        let ids = match (one, other) {
            (Ok(one), Ok(other)) => (one, other),
            (Err(error), _) | (_, Err(error)) if is_lost_statement(&error) => {
                behavior = LinkBehavior::WithoutStatements;
                break;
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        if ids.0 == ids.1 {
            behavior = LinkBehavior::Transactions;
            break;
        }
    }
    first.close().await?;
    second.close().await?;
    Ok(behavior)
}

/// Whether PostgreSQL gets the settings of a connection.
async fn accepts_settings(servers: &DatabaseServers, index: usize) -> Result<bool, Error> {
    let options = servers.get(index).as_ref().clone().options([MARK]);
    let mut connection = match PgConnection::connect_with(&options).await {
        Err(Error::Database(_)) => return Ok(false),
        connected => connected?,
    };
    let has_mark = "select coalesce(current_setting('muster.link', true), '') = 'direct'";
    let has_mark = sqlx::query_scalar(has_mark).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(has_mark)
}

/// The process of PostgreSQL that runs a prepared statement of one of two texts.
async fn prepared(connection: &mut PgConnection, text: i32) -> Result<i32, Error> {
    let sql = match text {
        1 => "select pg_backend_pid(), 1",
        _ => "select pg_backend_pid(), 2",
    };
    let row = connection.fetch_one(Persistent(sqlx::query(sql))).await?;
    sqlx::Row::try_get(&row, 0)
}

/// Whether a prepared statement is gone, or belongs to another client: 26000
/// invalid_sql_statement_name, 42P05 duplicate_prepared_statement, 08P01 protocol_violation for
/// parameters of another statement.
pub(super) fn is_lost_statement(error: &Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("26000" | "42P05" | "08P01"))
}

/// Refuses a pooler that keeps no prepared statements.
///
/// # Errors
/// The pooler keeps none, or the database does not answer.
pub(super) async fn check(servers: &DatabaseServers, index: usize) -> Result<(), Error> {
    if servers.is_pooled() && probe(servers, index).await? == LinkBehavior::WithoutStatements {
        let text = "the pooler of database.url keeps no prepared statements: Muster needs PgBouncer \
                    1.21 or newer, with max_prepared_statements above 0";
        return Err(WrongLink(text.to_owned()).into());
    }
    Ok(())
}
