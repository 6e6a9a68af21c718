//! `muster migrate`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::{CreateDatabase, Output};
use super::database::Database;
use super::explain::explain;
use super::output;
use crate::clock::Clock;
use crate::config::Settings;
use crate::service::admin::AdminContext;
use crate::service::admin::schema::{self, SchemaChanges, SchemaOverview, SchemaState};
use crate::service::admin::schema_plan::{self, PlannedMigration, PlannedStatement};

#[derive(Subcommand)]
pub(super) enum MigrateCommand {
    /// Show which migrations are applied and which are pending
    Status {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args, Clone, Copy)]
pub(super) struct MigrateArgs {
    /// Show the statements, their locks and estimated durations, and change nothing
    #[arg(long)]
    plan: bool,
    /// Also apply migrations that remove parts which this release does not use; programs of the previous
    /// release cannot use the database afterwards
    #[arg(long)]
    contract: bool,
    #[command(flatten)]
    create_database: CreateDatabase,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(
    settings: &Settings,
    command: Option<MigrateCommand>,
    args: MigrateArgs,
    clock: &Clock,
) -> anyhow::Result<()> {
    let MigrateArgs { plan: is_plan, contract, create_database, output } = args;
    let database = match command {
        None if !is_plan => Database::open_with(settings, create_database).await?,
        None | Some(MigrateCommand::Status { .. }) => Database::open_existing(settings).await?,
    };
    let admin = database.admin(clock);
    let result = match command {
        None if is_plan => plan(&admin, contract, output).await,
        None => apply(&admin, contract, output).await,
        Some(MigrateCommand::Status { output: own }) => {
            status(&admin, Output { json: output.json || own.json }).await
        }
    };
    database.close().await;
    result
}

async fn apply(admin: &AdminContext, with_contracts: bool, output: Output) -> anyhow::Result<()> {
    let changes = schema::migrate(admin, with_contracts).await.map_err(explain)?;
    let SchemaChanges { applied, pending_contracts } = changes;
    if output.json {
        let applied: Vec<i64> = applied.iter().map(|migration| migration.version).collect();
        let mut printed = json!({ "applied": applied });
        if pending_contracts > 0 {
            printed["contractsPending"] = json!(pending_contracts);
        }
        return Ok(output::json(&printed)?);
    }
    for migration in &applied {
        output::text(&format!("applied {:04} {}", migration.version, migration.description))?;
    }
    if pending_contracts > 0 {
        output::text(&format!(
            "{pending_contracts} of the kind contract pending: run `muster migrate --contract` after the last \
             server of the previous release has stopped"
        ))?;
    }
    output::text(if applied.is_empty() { "nothing to do" } else { "the database is up to date" })?;
    Ok(())
}

async fn plan(admin: &AdminContext, with_contracts: bool, output: Output) -> anyhow::Result<()> {
    let planned = schema_plan::plan(admin, with_contracts).await.map_err(explain)?;
    if output.json {
        let migrations: Vec<Value> = planned.iter().map(planned_json).collect();
        return Ok(output::json(&migrations)?);
    }
    if planned.is_empty() {
        return Ok(output::text("nothing to do")?);
    }
    for PlannedMigration { migration, statements } in &planned {
        let kind = migration.kind.unwrap_or("stops all servers");
        output::text(&format!("{:04} {} ({kind})", migration.version, migration.description))?;
        for (number, statement) in (1..).zip(statements) {
            output::text(&planned_text(number, statement))?;
        }
    }
    let all = planned.iter().flat_map(|migration| &migration.statements);
    let total: Duration =
        all.filter(|statement| !statement.is_done).map(|statement| statement.duration).sum();
    output::text(&format!("about {} in all; nothing was changed", seconds(total)))?;
    Ok(())
}

/// The lines of a statement in a plan.
fn planned_text(number: usize, statement: &PlannedStatement) -> String {
    let PlannedStatement { sql, is_done, mode, lock, waiting, table, rows, duration, .. } =
        statement;
    let mode = match *mode {
        "batches" => "in batches",
        "alone" => "without a transaction",
        _ => "in a transaction",
    };
    let locked = match table {
        Some(table) => format!("{lock} on {table} of {rows} rows, {waiting} wait"),
        None => "no table in use".to_owned(),
    };
    let duration =
        if *is_done { "done".to_owned() } else { format!("about {}", seconds(*duration)) };
    format!("  {number}. {}\n     {mode}; {locked}; {duration}", shortened(sql))
}

fn planned_json(PlannedMigration { migration, statements }: &PlannedMigration) -> Value {
    let statements = statements.iter().map(|statement| {
        let PlannedStatement { sql, is_done, mode, lock, waiting, table, rows, bytes, duration } =
            statement;
        json!({
            "sql": sql,
            "done": is_done,
            "mode": mode,
            "lock": lock,
            "waiting": waiting,
            "table": table,
            "rows": rows,
            "bytes": bytes,
            "estimatedMs": u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        })
    });
    json!({
        "version": migration.version,
        "description": migration.description,
        "kind": migration.kind,
        "statements": statements.collect::<Vec<_>>(),
    })
}

/// The beginning of a statement.
fn shortened(sql: &str) -> String {
    const SHOWN_CHARS: usize = 100;
    match sql.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &sql[..end]),
        None => sql.to_owned(),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

async fn status(admin: &AdminContext, output: Output) -> anyhow::Result<()> {
    // The list shows no unknown or broken migrations, so the error below reports them.
    let SchemaOverview { state, migrations } = schema::overview(admin).await.map_err(explain)?;
    if output.json {
        let list: Vec<_> = migrations
            .iter()
            .map(|migration| {
                json!({
                    "version": migration.version,
                    "description": migration.description,
                    "kind": migration.kind,
                    "appliedAt": migration.applied_at,
                })
            })
            .collect();
        output::json(&list)?;
    } else {
        for migration in &migrations {
            let applied = match migration.applied_at {
                Some(at) => format!("applied {} UTC", output::time(at)),
                None => "pending".to_owned(),
            };
            output::text(&format!(
                "{:04} {}: {applied}",
                migration.version, migration.description
            ))?;
        }
    }
    match state {
        SchemaState::Current | SchemaState::ContractsPending(_) | SchemaState::Pending(_) => Ok(()),
        SchemaState::Extended(found) => {
            if !output.json {
                let text = "added by a newer Muster; this program can use the database";
                for version in found {
                    output::text(&format!("{version:04}: {text}"))?;
                }
            }
            Ok(())
        }
        SchemaState::Newer(found) => {
            anyhow::bail!(
                "the database is newer than this program: it has unknown migrations {found:?}"
            )
        }
        SchemaState::Broken(version) => anyhow::bail!(
            "migration {version} did not finish or has another text than in this program. Restore a \
             backup, or compare the schema with the file of that number by hand"
        ),
    }
}
