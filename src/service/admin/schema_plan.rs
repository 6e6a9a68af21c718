//! The plan of a migration: its statements, their locks, and estimated durations.

use std::time::Duration;

use super::schema::SchemaStep;
use super::{AdminContext, Error};
use crate::repository::migrations::plan::{MigrationPlan, PlannedStep};
use crate::repository::migrations::{self, MigrationScope, StepMode};

/// The plan of one migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMigration {
    /// The migration.
    pub migration: SchemaStep,
    /// Its statements in their order.
    pub statements: Vec<PlannedStatement>,
}

/// The plan of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStatement {
    /// The statement in one line.
    pub sql: String,
    /// Whether an earlier run has done it.
    pub is_done: bool,
    /// `transaction`, `alone` or `batches`.
    pub mode: &'static str,
    /// The lock, as PostgreSQL names it, or `none`.
    pub lock: &'static str,
    /// The requests that wait while the lock is held: `none`, `writes` or `all`.
    pub waiting: &'static str,
    /// The locked table, if the database has it.
    pub table: Option<String>,
    /// The estimated number of its rows.
    pub rows: u64,
    /// Its size with its indexes.
    pub bytes: u64,
    /// The estimated duration.
    pub duration: Duration,
}

/// Plans the pending migrations, the contracts only if `with_contracts` is set. Nothing is changed.
///
/// # Errors
/// [`Error::Unreachable`] or [`Error::Migration`].
pub async fn plan(
    admin: &AdminContext,
    with_contracts: bool,
) -> Result<Vec<PlannedMigration>, Error> {
    let scope = match with_contracts {
        true => MigrationScope::All,
        false => MigrationScope::WithoutContracts,
    };
    let plans = migrations::plan::plan(&admin.pool, &admin.migrations, scope).await?;
    Ok(plans.into_iter().map(PlannedMigration::from).collect())
}

impl From<MigrationPlan> for PlannedMigration {
    fn from(MigrationPlan { migration, steps }: MigrationPlan) -> Self {
        let statements = steps.into_iter().map(PlannedStatement::from).collect();
        Self { migration: migration.into(), statements }
    }
}

impl From<PlannedStep> for PlannedStatement {
    fn from(step: PlannedStep) -> Self {
        let PlannedStep { sql, is_done, mode, lock, table, rows, bytes, duration } = step;
        let mode = match mode {
            StepMode::Transaction => "transaction",
            StepMode::Alone => "alone",
            StepMode::Batches => "batches",
        };
        let (lock, waiting) = (lock.as_str(), lock.waiting());
        Self { sql, is_done, mode, lock, waiting, table, rows, bytes, duration }
    }
}
