//! Whether requests can be served.

use sqlx::PgPool;

use crate::repository::migrations::{self, Standing};

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// The database does not answer.
    #[error("the database does not answer")]
    Database(#[source] crate::repository::Error),
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

    /// Asks the database whether it answers and has this program's schema.
    ///
    /// # Errors
    /// [`NotReady`].
    pub async fn check(&self) -> Result<(), NotReady> {
        match migrations::standing(&self.pool).await.map_err(NotReady::Database)? {
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
}
