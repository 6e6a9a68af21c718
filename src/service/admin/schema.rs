//! The schema of the database: comparison with this version of Muster, and migration.

use chrono::{DateTime, Utc};

use super::{AdminContext, Error};
use crate::repository::migrations::{self, Migration, MigrationKind, MigrationScope, SchemaStatus};
use crate::repository::{self, key_rotation};

/// The schema of a database, compared with this version of Muster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// The schema is current.
    Current,
    /// The number of pending migrations that only remove unused parts. This version can use the
    /// database.
    ContractsPending(usize),
    /// A newer version of Muster has only added to the schema, by these migrations. This version can
    /// use the database.
    Extended(Vec<i64>),
    /// The number of pending migrations.
    Pending(usize),
    /// A newer version of Muster applied these migrations, after which this one cannot use the
    /// database.
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
    /// `expand` or `contract`; `None` if it was made before the first release.
    pub kind: Option<&'static str>,
    /// The time at which it was applied; `None` if it is pending.
    pub applied_at: Option<DateTime<Utc>>,
}

/// The result of [`migrate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaChanges {
    /// The applied migrations.
    pub applied: Vec<SchemaStep>,
    /// The number of contracts that are still pending.
    pub pending_contracts: usize,
}

/// The schema of a database, with each migration of this version of Muster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaOverview {
    /// The schema as a whole.
    pub state: SchemaState,
    /// The migrations in their order. Those that only a newer version has are not among them.
    pub migrations: Vec<SchemaStep>,
}

/// Compares the schema with this version of Muster.
///
/// # Errors
/// [`Error::Unreachable`].
pub async fn state(admin: &AdminContext) -> Result<SchemaState, Error> {
    let status =
        migrations::status(&admin.pool, &admin.migrations).await.map_err(Error::Unreachable)?;
    Ok(status.into())
}

/// Compares the schema with this version of Muster, and lists the migrations of this version.
///
/// # Errors
/// [`Error::Unreachable`], or the database fails.
pub async fn overview(admin: &AdminContext) -> Result<SchemaOverview, Error> {
    let state = state(admin).await?;
    let steps = migrations::list(&admin.pool, &admin.migrations).await?;
    Ok(SchemaOverview { state, migrations: steps.into_iter().map(SchemaStep::from).collect() })
}

/// Applies the pending migrations, the contracts only if `with_contracts` is set or the database has no
/// tables, and seals the secrets if no master key is active yet. Programs of the previous release cannot
/// use the database after a contract. Nothing is changed if the active master key is missing.
///
/// # Errors
/// [`Error::Unreachable`], [`Error::Migration`], [`Error::MasterKeyMissing`], or the keyring or the
/// database fails.
pub async fn migrate(admin: &AdminContext, with_contracts: bool) -> Result<SchemaChanges, Error> {
    let scope = match with_contracts {
        true => MigrationScope::All,
        false => MigrationScope::WithoutContracts,
    };
    let applied = apply(admin, scope).await?;
    let pending_contracts = match state(admin).await? {
        SchemaState::ContractsPending(pending) => pending,
        _ => 0,
    };
    Ok(SchemaChanges { applied, pending_contracts })
}

async fn apply(admin: &AdminContext, scope: MigrationScope) -> Result<Vec<SchemaStep>, Error> {
    admin.keyring.load()?;
    let AdminContext { pool, migrations, lock_waits, .. } = admin;
    let applied = migrations::run(pool, migrations, scope, *lock_waits).await?;
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
        migrate(admin, false).await?;
        return Ok(());
    }
    if let SchemaState::Pending(pending) = state(admin).await? {
        return Err(Error::MigrationsPending(pending));
    }
    apply(admin, MigrationScope::WithoutContracts).await?;
    Ok(())
}

/// Rejects a schema that a migration cannot make current, also one that a newer version has extended: a
/// copy would lack its additions.
pub(super) async fn require_known(admin: &AdminContext) -> Result<(), Error> {
    match state(admin).await? {
        SchemaState::Current | SchemaState::ContractsPending(_) | SchemaState::Pending(_) => Ok(()),
        SchemaState::Extended(_) | SchemaState::Newer(_) | SchemaState::Broken(_) => {
            Err(Error::ForeignSchema)
        }
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
            SchemaStatus::ContractsPending(pending) => Self::ContractsPending(pending.len()),
            SchemaStatus::Extended(found) => Self::Extended(found),
            SchemaStatus::Pending(pending) => Self::Pending(pending.len()),
            SchemaStatus::Newer(found) => Self::Newer(found),
            SchemaStatus::Dirty(version) | SchemaStatus::ChecksumMismatch(version) => {
                Self::Broken(version)
            }
        }
    }
}

impl From<Migration> for SchemaStep {
    fn from(migration: Migration) -> Self {
        let Migration { version, description, kind, applied_at } = migration;
        Self { version, description, kind: kind.map(MigrationKind::as_str), applied_at }
    }
}
