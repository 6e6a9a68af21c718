//! `muster migrate`.

use clap::Subcommand;
use serde_json::json;

use super::args::{CreateDatabase, Output};
use super::database::Database;
use super::explain::explain;
use super::output;
use crate::clock::Clock;
use crate::config::Settings;
use crate::service::admin::AdminContext;
use crate::service::admin::schema::{self, SchemaState};

#[derive(Subcommand)]
pub(super) enum MigrateCommand {
    /// Show which migrations are applied and which are pending
    Status {
        #[command(flatten)]
        output: Output,
    },
}

pub(super) async fn run(
    settings: &Settings,
    command: Option<MigrateCommand>,
    create_database: CreateDatabase,
    output: Output,
    clock: &Clock,
) -> anyhow::Result<()> {
    let database = match command {
        None => Database::open_with(settings, create_database).await?,
        Some(MigrateCommand::Status { .. }) => Database::open_existing(settings).await?,
    };
    let admin = database.admin(clock);
    let result = match command {
        None => apply(&admin, output).await,
        Some(MigrateCommand::Status { output: own }) => {
            status(&admin, Output { json: output.json || own.json }).await
        }
    };
    database.close().await;
    result
}

async fn apply(admin: &AdminContext, output: Output) -> anyhow::Result<()> {
    let applied = schema::migrate(admin).await.map_err(explain)?;
    if output.json {
        let applied: Vec<i64> = applied.iter().map(|migration| migration.version).collect();
        return Ok(output::json(&json!({ "applied": applied }))?);
    }
    for migration in &applied {
        output::text(&format!("applied {:04} {}", migration.version, migration.description))?;
    }
    output::text(if applied.is_empty() { "nothing to do" } else { "the database is up to date" })?;
    Ok(())
}

async fn status(admin: &AdminContext, output: Output) -> anyhow::Result<()> {
    // The list shows no unknown or broken migrations, so the error below reports them.
    let found = schema::state(admin).await.map_err(explain)?;
    let list = schema::list(admin).await.map_err(explain)?;
    if output.json {
        let list: Vec<_> = list
            .iter()
            .map(|migration| {
                json!({
                    "version": migration.version,
                    "description": migration.description,
                    "appliedAt": migration.applied_at,
                })
            })
            .collect();
        output::json(&list)?;
    } else {
        for migration in &list {
            let state = match migration.applied_at {
                Some(at) => format!("applied {}", at.format("%Y-%m-%d %H:%M:%S UTC")),
                None => "pending".to_owned(),
            };
            output::text(&format!("{:04} {}: {state}", migration.version, migration.description))?;
        }
    }
    match found {
        SchemaState::Current | SchemaState::Pending(_) => Ok(()),
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
