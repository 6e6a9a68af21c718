//! `muster secrets`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::json;

use super::args::Output;
use super::database::Database;
use super::explain::explain;
use super::output::{self, OutputError};
use crate::clock::Clock;
use crate::config::Settings;
use crate::service::admin::AdminContext;
use crate::service::admin::secrets;
use crate::wire::MasterKey;

#[derive(Subcommand)]
pub(super) enum SecretsCommand {
    /// Print a new master key without storing it
    Generate,
    /// Show the ids of the active master key and of the keys that this configuration has
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// Seal all secrets with another master key while servers run
    ///
    /// The new key is the first key of this configuration if another key is active. Otherwise a new
    /// key is generated and written to the file of master keys, before the old one. Nothing is
    /// sealed with the new key until all running servers have it.
    Rotate {
        /// Remove the keys that are no longer active from the file; earlier backups still need them
        #[arg(long)]
        finish: bool,
        #[command(flatten)]
        output: Output,
    },
}

/// `muster secrets generate`, which works without a configuration.
pub(super) fn generate() -> Result<(), OutputError> {
    output::text(&STANDARD.encode(MasterKey::generate().bytes()))
}

pub(super) async fn run(
    settings: &Settings,
    command: SecretsCommand,
    clock: &Clock,
) -> anyhow::Result<()> {
    let database = Database::open_existing(settings).await?.ensure_current(settings, clock).await?;
    let admin = database.admin(clock);
    let result = match command {
        SecretsCommand::Generate => Ok(()),
        SecretsCommand::Status { output } => status(&admin, output).await,
        SecretsCommand::Rotate { finish: false, output } => rotate(&admin, output).await,
        SecretsCommand::Rotate { finish: true, output } => finish(&admin, output).await,
    };
    database.close().await;
    result
}

async fn status(admin: &AdminContext, output: Output) -> anyhow::Result<()> {
    let status = secrets::status(admin).await.map_err(explain)?;
    if output.json {
        let ids: Vec<String> = status.available.iter().map(ToString::to_string).collect();
        return Ok(output::json(&json!({
            "active": status.active.to_string(),
            "since": status.since,
            "available": ids,
            "file": status.file,
        }))?);
    }
    output::text(&format!(
        "active     {}  since {}",
        status.active,
        status.since.format("%F %T UTC")
    ))?;
    for id in status.available {
        output::text(&format!("available  {id}"))?;
    }
    Ok(())
}

async fn rotate(admin: &AdminContext, output: Output) -> anyhow::Result<()> {
    let summary = secrets::rotate(admin).await.map_err(explain)?;
    if output.json {
        return Ok(output::json(&json!({
            "from": summary.from.to_string(), "to": summary.to.to_string(), "apps": summary.apps,
        }))?);
    }
    output::text(&format!(
        "{} is the active master key now; the secrets of {} apps were sealed with it\n{} is needed only for backups made until now: {}",
        summary.to,
        summary.apps,
        summary.from,
        match summary.in_file {
            true => "`muster secrets rotate --finish` removes it from the file",
            false => "restart all servers without it at any time",
        }
    ))?;
    Ok(())
}

async fn finish(admin: &AdminContext, output: Output) -> anyhow::Result<()> {
    let done = secrets::remove_old_keys(admin).await.map_err(explain)?;
    let removed: Vec<String> = done.removed.iter().map(ToString::to_string).collect();
    if output.json {
        return Ok(output::json(
            &json!({ "active": done.active.to_string(), "removed": removed }),
        )?);
    }
    output::text(&match removed.is_empty() {
        true => "nothing to do".to_owned(),
        false => format!("removed {}; {} is active", removed.join(", "), done.active),
    })?;
    Ok(())
}
