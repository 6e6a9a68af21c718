//! Work on a connection through a pooler: in a transaction, which begins with the settings.
//!
//! The pooler keeps prepared statements for all clients. If PostgreSQL refuses one because its plan is
//! outdated, a new one with the same text would be the same for the pooler. So the session of
//! PostgreSQL forgets all of them, in the transaction that repeats the work.

use std::io::ErrorKind;
use std::time::Duration;

use sqlx::Error;
use tokio::time::timeout;

use super::server_connection::ServerConnection;
use super::statement::{PreparedStatement, Step, is_outdated_plan};
use crate::repository;
use crate::repository::error::ends_connection;

/// Runs a statement, once more if its plan is outdated. Each attempt takes at most `limit`.
///
/// # Errors
/// When the database fails.
pub(super) async fn run(
    statement: PreparedStatement,
    connection: &mut ServerConnection,
    limit: Duration,
) -> Result<Vec<Step>, Error> {
    let again = statement.clone();
    let timed_out = |_| Err(Error::Io(ErrorKind::TimedOut.into()));
    let ran = timeout(limit, try_statement(statement, connection, false)).await;
    match ran.unwrap_or_else(timed_out) {
        Err(error) if is_outdated_plan(&error) => {
            let ran = timeout(limit, try_statement(again, connection, true)).await;
            ran.unwrap_or_else(timed_out)
        }
        result => result,
    }
}

async fn try_statement(
    statement: PreparedStatement,
    connection: &mut ServerConnection,
    forgets: bool,
) -> Result<Vec<Step>, Error> {
    connection.begin().await?;
    if forgets {
        connection.forget_statements().await?;
    }
    let result = statement.run_once(connection).await;
    let is_refusal = match &result {
        Ok(_) => true,
        Err(Error::Database(error)) => !ends_connection(&**error),
        Err(_) => false,
    };
    if is_refusal {
        let ended = connection.end().await;
        // The error of the statement is more precise.
        return result.and_then(|steps| ended.map(|()| steps));
    }
    result
}

/// Begins the transaction of work. With `forgets`, the session of PostgreSQL first forgets its prepared
/// statements.
///
/// # Errors
/// [`repository::Error::Unavailable`]: nothing was executed. The connection is closed.
pub(super) async fn begin(
    mut connection: ServerConnection,
    forgets: bool,
    limit: Duration,
) -> Result<ServerConnection, repository::Error> {
    let beginning = async {
        connection.begin().await?;
        if forgets {
            connection.forget_statements().await?;
        }
        Ok(())
    };
    let begun = timeout(limit, beginning).await.unwrap_or(Err(Error::PoolTimedOut));
    begun.map_err(repository::Error::Unavailable)?;
    Ok(connection)
}

/// Ends the transaction of work with the result `done`.
///
/// # Errors
/// [`repository::Error::OutcomeUnknown`] if there is no answer in time.
pub(super) async fn end<T>(
    mut connection: ServerConnection,
    done: Result<T, repository::Error>,
    limit: Duration,
) -> Result<(ServerConnection, Result<T, repository::Error>), repository::Error> {
    if done.as_ref().is_err_and(repository::Error::is_outcome_unknown) {
        return Ok((connection, done));
    }
    let ended = timeout(limit, connection.end()).await;
    let ended = ended.map_err(|_| repository::Error::OutcomeUnknown(limit))?;
    // The error of the work is more precise.
    let done = done.and_then(|done| ended.map(|()| done).map_err(repository::Error::from));
    Ok((connection, done))
}
