//! The plan of a migration run: its statements, their locks, and estimated durations.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::MigrationError;
use super::known::{Migration, MigrationList, MigrationScope};
use super::record;
use super::script::StepMode;
use super::statements::{self, SqlToken};
use super::step_effect::{StepEffect, StepWork, TableLock};
use crate::repository::{Error, Pool};

/// The duration of a statement that touches no row: a lock, a record, a commit.
const BASE: Duration = Duration::from_millis(10);

/// The plan of one migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationPlan {
    /// The migration.
    pub migration: Migration,
    /// Its statements in their order.
    pub steps: Vec<PlannedStep>,
}

/// The plan of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// The statement without comments, in one line.
    pub sql: String,
    /// Whether an earlier run has done it.
    pub is_done: bool,
    /// The way in which it is run.
    pub mode: StepMode,
    /// The lock on `table`.
    pub lock: TableLock,
    /// The locked table, if the database has it.
    pub table: Option<String>,
    /// The estimated number of rows of the table.
    pub rows: u64,
    /// The size of the table with its indexes.
    pub bytes: u64,
    /// The estimated duration.
    pub duration: Duration,
}

/// The size of a table.
#[derive(sqlx::FromRow)]
struct TableSize {
    /// The name that was asked for: the table, or an index of it.
    relation: String,
    name: String,
    rows: i64,
    bytes: i64,
}

/// Plans the pending migrations of a scope. Nothing is changed.
///
/// # Errors
/// [`MigrationError`].
pub async fn plan(
    pool: &Pool,
    known: &MigrationList,
    scope: MigrationScope,
) -> Result<Vec<MigrationPlan>, MigrationError> {
    let applied = record::read_if_exists(pool).await?;
    let due = known.due(&applied, scope)?;
    let names = due.iter().flat_map(|known| &known.script.steps);
    let names = names.filter_map(|step| StepEffect::from_step(step).relation).collect();
    let sizes = sizes(pool, names).await?;
    let plans = due.into_iter().map(|known| {
        let row = applied.get(&known.file.version);
        let done = row.and_then(|row| row.statements_done).unwrap_or_default();
        let steps = known.script.steps.iter().enumerate().map(|(index, step)| {
            let StepEffect { relation, lock, work } = StepEffect::from_step(step);
            let size = relation.and_then(|relation| sizes.get(&relation));
            let rows = size.map_or(0, |size| size.rows.unsigned_abs());
            PlannedStep {
                sql: one_line(&step.sql),
                is_done: index < done,
                mode: step.mode,
                lock,
                table: size.map(|size| size.name.clone()),
                rows,
                bytes: size.map_or(0, |size| size.bytes.unsigned_abs()),
                duration: estimate(work, step.mode, rows),
            }
        });
        MigrationPlan { migration: known.describe(row), steps: steps.collect() }
    });
    Ok(plans.collect())
}

/// The sizes of the tables with these names, or with indexes of these names.
async fn sizes(pool: &Pool, names: Vec<String>) -> Result<BTreeMap<String, TableSize>, Error> {
    // A table that was never analyzed has no number of rows. Rows of Muster have about 200 bytes.
    let rows: Vec<TableSize> = sqlx::query_as(
        "select relation, relname::text as name,
                (case when reltuples < 0 then pg_relation_size(pg_class.oid) / 200
                      else reltuples end)::int8 as rows,
                pg_total_relation_size(pg_class.oid) as bytes
         from unnest($1::text[]) as asked (relation)
         join pg_class on pg_class.oid = coalesce(
             (select indrelid from pg_index where indexrelid = to_regclass(relation)),
             to_regclass(relation)
         )",
    )
    .bind(names)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|size| (size.relation.clone(), size)).collect())
}

/// The duration on the machine on which the figures below were measured: a million rows of the size of
/// a session, two shared cores.
fn estimate(work: StepWork, mode: StepMode, rows: u64) -> Duration {
    let nanoseconds_for_each_row = match work {
        StepWork::Constant => 0,
        StepWork::Read => 400,
        StepWork::Index => 2_000,
        StepWork::Rewrite => 10_000,
        // Two for one: after each batch, requests have as much time as the batch took.
        StepWork::Change if mode == StepMode::Batches => 42_000,
        StepWork::Change => 21_000,
    };
    BASE + Duration::from_nanos(rows.saturating_mul(nanoseconds_for_each_row))
}

/// The statement in one line, without comments.
fn one_line(sql: &str) -> String {
    let words = statements::tokens(sql)
        .map(|(token, piece)| match token {
            SqlToken::Comment => " ",
            _ => piece,
        })
        .collect::<String>();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_take_twice_as_long_and_every_statement_takes_some_time() {
        assert_eq!(estimate(StepWork::Constant, StepMode::Transaction, 1_000_000), BASE);
        let change = |mode| estimate(StepWork::Change, mode, 1_000_000) - BASE;
        assert_eq!(change(StepMode::Batches), 2 * change(StepMode::Transaction));
    }

    #[test]
    fn statement_is_shown_in_one_line() {
        assert_eq!(one_line("update a -- why\n  set b = 'x';"), "update a set b = 'x';");
    }
}
