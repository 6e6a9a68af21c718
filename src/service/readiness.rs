//! Whether requests can be served.

use std::time::Duration;

use crate::repository;
use crate::repository::PgPool;
use crate::repository::migrations::{self, Standing};

/// How long the database may take. Probes give up after a second or two: they must have an answer
/// by then, with the reason.
const WITHIN: Duration = Duration::from_secs(1);

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// The database has not answered by now, or there is no connection to spare.
    #[error("the database does not answer in time")]
    Slow(#[source] Option<repository::Error>),
    /// Asking the database failed.
    #[error("the database cannot be reached")]
    Unreachable(#[source] repository::Error),
    /// The schema is not that of this program.
    #[error("{0}")]
    Schema(String),
}

/// Knows whether requests can be served.
pub struct Readiness {
    pool: PgPool,
}

impl Readiness {
    /// That of the database behind `pool`.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Asks the database whether it answers and has this program's schema. Takes a second at most.
    ///
    /// # Errors
    /// [`NotReady`].
    pub async fn check(&self) -> Result<(), NotReady> {
        match self.standing().await? {
            Standing::Current => Ok(()),
            Standing::Pending(pending) => Err(NotReady::Schema(format!(
                "migrations pending: {}; run `muster migrate`",
                pending.len()
            ))),
            Standing::Newer(_) => {
                Err(NotReady::Schema("the database is newer than this program".into()))
            }
            Standing::Unfinished(version) | Standing::Altered(version) => {
                Err(NotReady::Schema(format!("migration {version} is not as this program left it")))
            }
        }
    }

    /// Asks the database how its schema stands. Takes a second at most.
    pub(super) async fn standing(&self) -> Result<Standing, NotReady> {
        let standing = tokio::time::timeout(WITHIN, migrations::standing(&self.pool)).await;
        Ok(standing.map_err(|_| NotReady::Slow(None))??)
    }
}

impl From<repository::Error> for NotReady {
    fn from(error: repository::Error) -> Self {
        match error {
            error if error.is_acquire_timeout() => Self::Slow(Some(error)),
            error => Self::Unreachable(error),
        }
    }
}
