//! Errors of the database and of its contents.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::connections::no_server::NoServer;
use super::connections::statement;
use crate::domain::{AppId, Buin, MissingEvents};
use crate::keyring::KeyringError;
use crate::telemetry::cause_chain;
use crate::wire::MasterKeyId;

/// A failure of the repository. Its text is for operators and logs, never for clients.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, has no free connection, disk or memory, or is a read-only
    /// replica. Nothing was changed.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// The database reported an error, or the connection broke and the outcome is unknown.
    #[error("the database failed")]
    Failed(#[source] sqlx::Error),
    /// PostgreSQL canceled the statement because it took too long. Nothing was changed.
    #[error("the database took too long")]
    TimedOut(#[source] sqlx::Error),
    /// The database did not respond in time, not even with an error. The outcome is unknown, and
    /// the connection is closed.
    #[error("the database has not answered within {0:?}")]
    OutcomeUnknown(Duration),
    /// The work needs a session of PostgreSQL, and the connection goes through a pooler.
    #[error("this needs a session, but database.url leads to a pooler: set database.direct_url")]
    NoSession,
    /// The database cannot store every text.
    #[error("the database has the encoding {0}, but Muster needs UTF8")]
    UnsupportedEncoding(String),
    /// Muster cannot have stored this value.
    #[error("{table}.{column} holds {value:?}: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The stored value.
        value: String,
        /// The reason why the value is invalid.
        reason: String,
    },
    /// Secrets are sealed with a master key that this process does not have.
    #[error(
        "the secrets in the database are sealed with the master key {id}, {}",
        list_ids(available)
    )]
    MasterKeyUnknown {
        /// The id of that key.
        id: MasterKeyId,
        /// The ids of the keys in the keyring.
        available: Vec<MasterKeyId>,
    },
    /// No master key seals the secrets yet.
    #[error("the secrets in the database are not sealed yet: `muster migrate` does that")]
    NotSealed,
    /// The keyring has no usable master key.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The app has already made a request with this idempotency key. Nothing was changed.
    #[error("the idempotency key was used before")]
    DuplicateIdempotencyKey,
    /// The enterprise already has an app with this id.
    #[error("app {app_id} of enterprise {buin} already exists")]
    AppExists {
        /// The enterprise.
        buin: Buin,
        /// The app.
        app_id: AppId,
    },
    /// The app is archived, so it cannot be changed.
    #[error("app {app_id} of enterprise {buin} is archived")]
    AppArchived {
        /// The enterprise.
        buin: Buin,
        /// The app.
        app_id: AppId,
    },
    /// Sessions or their history name the app, so it cannot be deleted.
    #[error("the history of sessions names app {app_id} of enterprise {buin}")]
    AppInHistory {
        /// The enterprise.
        buin: Buin,
        /// The app.
        app_id: AppId,
    },
    /// The enterprise has no app with this id.
    #[error("there is no app {app_id} of enterprise {buin}")]
    AppUnknown {
        /// The enterprise.
        buin: Buin,
        /// The app.
        app_id: AppId,
    },
}

fn list_ids(ids: &[MasterKeyId]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    match ids.as_slice() {
        [] => "and no master key is available here".to_owned(),
        ids => format!("and only {} is available here", ids.join(", ")),
    }
}

impl Error {
    /// No connection became free in time. Nothing was changed.
    #[must_use]
    pub fn acquire_timeout() -> Self {
        Self::Unavailable(sqlx::Error::PoolTimedOut)
    }

    /// Whether no connection became free in time.
    #[must_use]
    pub fn is_acquire_timeout(&self) -> bool {
        matches!(self, Self::Unavailable(sqlx::Error::PoolTimedOut))
    }

    /// Whether a server answers, but takes no writes: it is a standby or read-only. Nothing was
    /// changed.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::Unavailable(error) if is_read_only_refusal(error))
    }

    /// Whether the database cannot store every text.
    #[must_use]
    pub fn is_unsupported_encoding(&self) -> bool {
        matches!(self, Self::UnsupportedEncoding(_))
    }

    /// Logs the failure of a task that is repeated by itself. The line is a warning, or only for
    /// debugging if the database cannot be reached, because that has lines of its own.
    pub fn warn(&self, task: &str) {
        match self {
            Self::Unavailable(_) => tracing::debug!(error = %cause_chain(self), "{task}"),
            _ => tracing::warn!(error = %cause_chain(self), "{task}"),
        }
    }

    /// Whether PostgreSQL refused the statement and is ready for the next one. The statement had no
    /// effect.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::DuplicateIdempotencyKey => true,
            Self::Failed(sqlx::Error::Database(database)) => !ends_connection(&**database),
            _ => false,
        }
    }

    /// Whether a shared statement may have failed because of one of its requests. No request had
    /// any effect.
    #[must_use]
    pub fn may_be_item_specific(&self) -> bool {
        self.is_refusal() || matches!(self, Self::TimedOut(_))
    }

    /// Whether PostgreSQL aborted the statement in favour of another transaction. It had no effect.
    #[must_use]
    pub fn is_deadlock(&self) -> bool {
        matches!(self, Self::Failed(error) if is_deadlock(error))
    }

    /// Whether PostgreSQL refused a prepared statement because a table was altered since it was
    /// prepared. The statement had no effect, and works if it is prepared anew.
    pub(super) fn is_outdated_plan(&self) -> bool {
        matches!(self, Self::Failed(error) if statement::is_outdated_plan(error))
    }

    /// Whether the connection broke, so that the outcome is unknown.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::OutcomeUnknown(_) => true,
            Self::Failed(sqlx::Error::Database(database)) => ends_connection(&**database),
            Self::Failed(error) => {
                matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_))
            }
            _ => false,
        }
    }

    /// Whether the connection can still be used after this error.
    pub(super) fn is_connection_usable(&self) -> bool {
        (self.may_be_item_specific() && !self.is_outdated_plan())
            || matches!(self, Self::Corrupt { .. })
    }

    /// Maps the failure of a statement that writes sessions.
    pub(super) fn from_write(error: sqlx::Error) -> Self {
        match error.as_database_error().and_then(|error| error.constraint()) {
            Some("idempotency_pkey") => Self::DuplicateIdempotencyKey,
            _ => error.into(),
        }
    }
}

impl From<MissingEvents> for Error {
    fn from(gap: MissingEvents) -> Self {
        corrupt("session_event", "version", gap.0)(gap)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Self::Unavailable(error),
            // A statement cannot have run before the connection was open.
            sqlx::Error::Io(io)
                if matches!(
                    io.kind(),
                    std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound
                ) =>
            {
                Self::Unavailable(error)
            }
            // 57P03 cannot_connect_now, 53300 too_many_connections: PostgreSQL did not accept the
            // connection. 57P05 idle_session_timeout, 25P03 idle_in_transaction_session_timeout:
            // PostgreSQL closed it between two statements, and rolled back an open transaction.
            sqlx::Error::Database(database)
                if matches!(
                    database.code().as_deref(),
                    Some("57P03" | "53300" | "57P05" | "25P03")
                ) =>
            {
                Self::Unavailable(error)
            }
            // 53...: no disk, no memory; 25006: a standby. The statement was rolled back, unless
            // PostgreSQL closed the connection: then the outcome is unknown.
            sqlx::Error::Database(database)
                if database
                    .code()
                    .is_some_and(|code| code.starts_with("53") || code == "25006")
                    && !ends_connection(&**database) =>
            {
                Self::Unavailable(error)
            }
            // 57014 query_canceled: by statement_timeout; 55P03 lock_not_available: by lock_timeout.
            // PostgreSQL has rolled back the statement.
            sqlx::Error::Database(database)
                if matches!(database.code().as_deref(), Some("57014" | "55P03")) =>
            {
                Self::TimedOut(error)
            }
            _ => Self::Failed(error),
        }
    }
}

/// Whether PostgreSQL aborted the statement in favour of another transaction: 40P01 is the victim of
/// a deadlock, 40001 a transaction whose snapshot is outdated.
pub(super) fn is_deadlock(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    matches!(code.as_deref(), Some("40P01" | "40001"))
}

/// Whether PostgreSQL closed the connection, or shut down, with this error.
pub(super) fn ends_connection(error: &dyn DatabaseError) -> bool {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// Whether a server refused to write, or a server was refused because it does not write. Nothing
/// was executed.
pub(super) fn is_read_only_refusal(error: &sqlx::Error) -> bool {
    match error {
        // read_only_sql_transaction
        sqlx::Error::Database(error) => {
            error.code().as_deref() == Some("25006") && !ends_connection(&**error)
        }
        sqlx::Error::Io(error) => error
            .get_ref()
            .and_then(|reason| reason.downcast_ref::<NoServer>())
            .is_some_and(|reason| reason.is_read_only),
        _ => false,
    }
}

/// For `map_err`: names the invalid stored value and the reason.
pub(super) fn corrupt<E: std::fmt::Display>(
    table: &'static str,
    column: &'static str,
    value: impl std::fmt::Display,
) -> impl FnOnce(E) -> Error {
    move |error| Error::Corrupt {
        table,
        column,
        value: value.to_string(),
        reason: error.to_string(),
    }
}
