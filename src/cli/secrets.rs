//! `muster secrets`.
//!
//! A rotation never has a moment in which a running server lacks a key: the new one is known
//! everywhere before anything is sealed with it, and the old one stays until it is taken away.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::json;

use super::args::Output;
use super::database::Store;
use super::explain::explain;
use super::output;
use crate::clock::Clock;
use crate::config::Settings;
use crate::service::admin::AdminContext;
use crate::service::admin::secrets;
use crate::wire::MasterKey;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print a new master key; it is kept nowhere
    Generate,
    /// Show which master key seals, and which are here, by their ids
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// Seal all secrets with another master key, while servers run
    ///
    /// That is the first key here, if another one seals now. Else a new one is made and written into
    /// the file of master keys, before the old one. Nothing is sealed with it until all running
    /// servers have it.
    Rotate {
        /// Take the keys that seal no more out of the file; earlier backups need them
        #[arg(long)]
        finish: bool,
        #[command(flatten)]
        output: Output,
    },
}

/// `secrets generate` needs nothing, so it works before there is a configuration.
pub(super) fn generate() {
    output::text(&STANDARD.encode(MasterKey::generate().bytes()));
}

pub(super) async fn run(
    settings: &Settings,
    command: Command,
    clock: &Clock,
) -> anyhow::Result<()> {
    let store = Store::open_existing(settings).await?.current(settings, clock).await?;
    let admin = store.admin(clock);
    let done = match command {
        Command::Generate => Ok(()),
        Command::Status { output } => status(&admin, output).await,
        Command::Rotate { finish: false, output } => rotate(&admin, output).await,
        Command::Rotate { finish: true, output } => finish(&admin, output).await,
    };
    store.close().await;
    done
}

async fn status(admin: &AdminContext, output: Output) -> anyhow::Result<()> {
    let status = secrets::status(admin).await.map_err(explain)?;
    if output.json {
        let here: Vec<String> = status.available.iter().map(ToString::to_string).collect();
        return output::json(&json!({
            "seals": status.active.to_string(),
            "since": status.since,
            "here": here,
            "file": status.file,
        }));
    }
    output::text(&format!("seals  {}  since {}", status.active, status.since.format("%F %T UTC")));
    for id in status.available {
        output::text(&format!("here   {id}"));
    }
    Ok(())
}

async fn rotate(admin: &AdminContext, output: Output) -> anyhow::Result<()> {
    let done = secrets::rotate(admin).await.map_err(explain)?;
    if output.json {
        return output::json(&json!({
            "from": done.from.to_string(), "to": done.to.to_string(), "apps": done.apps,
        }));
    }
    output::text(&format!(
        "{} seals the secrets of {} apps now\n{} is needed only for backups made until now: {}",
        done.to,
        done.apps,
        done.from,
        match done.in_file {
            true => "`muster secrets rotate --finish` takes it out of the file",
            false => "restart all servers without it when you like",
        }
    ));
    Ok(())
}

async fn finish(admin: &AdminContext, output: Output) -> anyhow::Result<()> {
    let done = secrets::remove_old_keys(admin).await.map_err(explain)?;
    let removed: Vec<String> = done.removed.iter().map(ToString::to_string).collect();
    if output.json {
        return output::json(&json!({ "seals": done.active.to_string(), "dropped": removed }));
    }
    output::text(&match removed.is_empty() {
        true => "nothing to do".to_owned(),
        false => format!("dropped {}; {} seals", removed.join(", "), done.active),
    });
    Ok(())
}
