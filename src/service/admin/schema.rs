//! The schema of the database: comparison with this version of Muster, and migration.

use chrono::{DateTime, Utc};

use super::{AdminContext, Error};
use crate::repository::migrations::{self, Migration, SchemaStatus};
use crate::repository::{self, feed, key_rotation};

/// The schema of a database, compared with this version of Muster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// The schema is current.
    Current,
    /// The number of pending migrations.
    Pending(usize),
    /// A newer version of Muster applied these migrations.
    Newer(Vec<i64>),
    /// A migration that did not finish, or was applied with another text.
    Broken(i64),
}

/// A migration of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaStep {
    /// The version number.
    pub version: i64,
    /// The subject.
    pub description: String,
    /// The time at which it was applied; `None` if it is pending.
    pub applied_at: Option<DateTime<Utc>>,
}

/// Compares the schema with this version of Muster.
///
/// # Errors
/// [`Error::Unreachable`].
pub async fn state(admin: &AdminContext) -> Result<SchemaState, Error> {
    let status = migrations::status(&admin.pool).await.map_err(Error::Unreachable)?;
    Ok(status.into())
}

/// Lists the migrations that this version of Muster has.
///
/// # Errors
/// The database fails.
pub async fn list(admin: &AdminContext) -> Result<Vec<SchemaStep>, Error> {
    let steps = migrations::list(&admin.pool).await?;
    Ok(steps.into_iter().map(SchemaStep::from).collect())
}

/// Applies the pending migrations, and seals the secrets if no master key is active yet. Returns
/// the applied migrations. Nothing is changed if the active master key is missing. A database that
/// was copied from another PostgreSQL is repaired.
///
/// # Errors
/// [`Error::Unreachable`], [`Error::Migration`], [`Error::MasterKeyMissing`], or the keyring or the
/// database fails.
pub async fn migrate(admin: &AdminContext) -> Result<Vec<SchemaStep>, Error> {
    let applied = apply(admin).await?;
    if migrations::repair_copy(&admin.pool).await? {
        tracing::warn!(
            "the database is a copy from another PostgreSQL: its transaction ids and sequences were \
             repaired"
        );
    }
    Ok(applied)
}

async fn apply(admin: &AdminContext) -> Result<Vec<SchemaStep>, Error> {
    admin.keyring.load()?;
    let applied = migrations::run(&admin.pool).await?;
    for migration in &applied {
        tracing::info!(version = migration.version, "migrated: {}", migration.description);
    }
    let sealed =
        key_rotation::seal_legacy_secrets(&admin.pool, &admin.keyring, admin.audit_context()).await;
    if let Some(sealed) = sealed.map_err(missing_key)? {
        tracing::info!(master_key = %sealed.id, apps = sealed.apps, "sealed the secrets");
    }
    Ok(applied.into_iter().map(SchemaStep::from).collect())
}

/// Makes sure that the schema is current, for use cases that use the tables. Pending migrations are
/// applied if `may_migrate` is set.
///
/// # Errors
/// [`Error::MigrationsPending`], and those of [`migrate`].
pub async fn prepare(admin: &AdminContext, may_migrate: bool) -> Result<(), Error> {
    if may_migrate {
        migrate(admin).await?;
        return Ok(());
    }
    if let SchemaState::Pending(pending) = state(admin).await? {
        return Err(Error::MigrationsPending(pending));
    }
    apply(admin).await?;
    warn_of_copy(admin).await
}

/// Warns of a database that was copied from another PostgreSQL and may not be repaired. The schema
/// must be current.
///
/// # Errors
/// The database fails.
pub async fn warn_of_copy(admin: &AdminContext) -> Result<(), Error> {
    if has_future_events(admin).await? {
        tracing::warn!(
            "the database is a copy from another PostgreSQL: the cache is not used, and lists may \
             omit sessions, until `muster migrate` gives its events new transaction ids"
        );
    }
    Ok(())
}

/// Whether the database was copied from another PostgreSQL in a way that keeps transaction ids. The
/// schema must be current.
///
/// # Errors
/// The database fails.
pub async fn has_future_events(admin: &AdminContext) -> Result<bool, Error> {
    let mut connection = admin.pool.acquire().await.map_err(repository::Error::from)?;
    Ok(feed::has_future_events(&mut connection).await?)
}

/// Rejects a schema that a migration cannot make current.
pub(super) async fn require_known(admin: &AdminContext) -> Result<(), Error> {
    match state(admin).await? {
        SchemaState::Current | SchemaState::Pending(_) => Ok(()),
        SchemaState::Newer(_) | SchemaState::Broken(_) => Err(Error::ForeignSchema),
    }
}

/// Converts the error for a missing active master key.
pub(super) fn missing_key(error: repository::Error) -> Error {
    match error {
        repository::Error::MasterKeyUnknown { .. } => Error::MasterKeyMissing(error),
        other => other.into(),
    }
}

impl From<SchemaStatus> for SchemaState {
    fn from(status: SchemaStatus) -> Self {
        match status {
            SchemaStatus::Current => Self::Current,
            SchemaStatus::Pending(pending) => Self::Pending(pending.len()),
            SchemaStatus::Newer(found) => Self::Newer(found),
            SchemaStatus::Dirty(version) | SchemaStatus::ChecksumMismatch(version) => {
                Self::Broken(version)
            }
        }
    }
}

impl From<Migration> for SchemaStep {
    fn from(Migration { version, description, applied_at }: Migration) -> Self {
        Self { version, description, applied_at }
    }
}
