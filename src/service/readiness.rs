//! The readiness of the server to serve requests.

use std::time::Duration;

use crate::repository;
use crate::repository::Pool;
use crate::repository::migrations::{self, SchemaStatus};

/// The time limit of the database. Probes usually give up after one or two seconds, and must get
/// the reason before.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The reason why the server cannot serve requests.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// The database did not answer in time, or no connection became free in time.
    #[error("the database does not answer in time")]
    Timeout(#[source] Option<repository::Error>),
    /// The database reported an error.
    #[error("the database cannot be reached")]
    Unreachable(#[source] repository::Error),
    /// The database takes no writes.
    #[error("the database is read-only: it is a standby, or default_transaction_read_only is on")]
    ReadOnly,
    /// The schema is not the one that this program needs.
    #[error("{0}")]
    Schema(String),
}

/// Checks whether the server can serve requests.
pub struct Readiness {
    pool: Pool,
}

impl Readiness {
    /// Checks the database behind `pool`.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Checks that the database answers, has the schema of this program and takes writes. Takes at
    /// most a second.
    ///
    /// # Errors
    /// [`NotReady`] with the reason.
    pub async fn check(&self) -> Result<(), NotReady> {
        match within_timeout(migrations::status_and_read_only(&self.pool)).await? {
            (SchemaStatus::Current, false) => Ok(()),
            (SchemaStatus::Current, true) => Err(NotReady::ReadOnly),
            (SchemaStatus::Pending(pending), _) => Err(NotReady::Schema(format!(
                "migrations pending: {}; run `muster migrate`",
                pending.len()
            ))),
            (SchemaStatus::Newer(_), _) => {
                Err(NotReady::Schema("the database is newer than this program".into()))
            }
            (SchemaStatus::Dirty(version) | SchemaStatus::ChecksumMismatch(version), _) => {
                Err(NotReady::Schema(format!("migration {version} is not as this program left it")))
            }
        }
    }

    /// Compares the schema with the one that this program needs. Takes at most a second.
    pub(super) async fn schema_status(&self) -> Result<SchemaStatus, NotReady> {
        let (status, _) = within_timeout(migrations::status_and_read_only(&self.pool)).await?;
        Ok(status)
    }
}

async fn within_timeout<T>(
    work: impl Future<Output = Result<T, repository::Error>>,
) -> Result<T, NotReady> {
    let result = tokio::time::timeout(TIMEOUT, work).await;
    Ok(result.map_err(|_| NotReady::Timeout(None))??)
}

impl From<repository::Error> for NotReady {
    fn from(error: repository::Error) -> Self {
        match error {
            error if error.is_acquire_timeout() => Self::Timeout(Some(error)),
            error => Self::Unreachable(error),
        }
    }
}
