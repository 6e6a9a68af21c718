//! The error of a database of which no server can be used.

use std::{fmt, io};

use sqlx::Error;

use super::database_servers::DatabaseServers;
use crate::telemetry::cause_chain;

/// No server of the database has the required role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::repository) struct NoServer {
    /// The name of each server, and the reason against it.
    reasons: Vec<(String, String)>,
    /// Whether a server answers, but takes no writes.
    pub(in crate::repository) is_read_only: bool,
}

/// The error of an attempt to connect to a server of the database.
pub(in crate::repository) enum ConnectError {
    Failed(Error),
    ReadOnly(&'static str),
}

impl NoServer {
    pub(in crate::repository) fn new(
        servers: &DatabaseServers,
        errors: &[(usize, ConnectError)],
    ) -> Self {
        let reason = |(index, error): &(usize, ConnectError)| {
            let reason = match error {
                ConnectError::Failed(Error::PoolTimedOut) => "no answer in time".to_owned(),
                ConnectError::Failed(error) => cause_chain(error),
                ConnectError::ReadOnly(role) => (*role).to_owned(),
            };
            (servers.name(*index), reason)
        };
        let is_read_only =
            errors.iter().any(|(_, error)| matches!(error, ConnectError::ReadOnly(_)));
        Self { reasons: errors.iter().map(reason).collect(), is_read_only }
    }

    /// The error of a database whose only server is a standby.
    pub(in crate::repository) fn standby(servers: &DatabaseServers) -> Self {
        Self::new(servers, &[(0, ConnectError::ReadOnly("a standby"))])
    }

    /// The error of a server that has become read-only while it was used.
    pub(in crate::repository) fn became_read_only() -> Self {
        Self { reasons: Vec::new(), is_read_only: true }
    }
}

impl fmt::Display for NoServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no server of the database takes writes")?;
        for (index, (server, reason)) in self.reasons.iter().enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(f, "{separator}{server}: {reason}")?;
        }
        Ok(())
    }
}

impl std::error::Error for NoServer {}

impl From<NoServer> for Error {
    /// An error that says that nothing was executed.
    fn from(reason: NoServer) -> Self {
        Self::Io(io::Error::new(io::ErrorKind::ConnectionRefused, reason))
    }
}
