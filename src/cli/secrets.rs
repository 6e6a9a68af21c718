//! `muster secrets`.
//!
//! A rotation never has a moment in which a running server lacks a key: the new one is known
//! everywhere before anything is sealed with it, and the old one stays until it is taken away.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::json;

use super::args::Output;
use super::database::Store;
use super::output;
use crate::clock::Clock;
use crate::config::Settings;
use crate::repository::sealing;
use crate::wire::{MasterKey, MasterKeyId};

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
    let done = match command {
        Command::Generate => Ok(()),
        Command::Status { output } => status(&store, output).await,
        Command::Rotate { finish: false, output } => rotate(&store, clock, output).await,
        Command::Rotate { finish: true, output } => finish(&store, clock, output).await,
    };
    store.close().await;
    done
}

async fn status(store: &Store, output: Output) -> anyhow::Result<()> {
    let current = sealing::current(&store.pool).await?;
    let here = store.keyring.ids();
    if output.json {
        let here: Vec<String> = here.iter().map(ToString::to_string).collect();
        return output::json(&json!({
            "seals": current.id.to_string(),
            "since": current.since,
            "here": here,
            "file": store.keyring.leading_file(),
        }));
    }
    output::text(&format!("seals  {}  since {}", current.id, current.since.format("%F %T UTC")));
    for id in here {
        output::text(&format!("here   {id}"));
    }
    Ok(())
}

async fn rotate(store: &Store, clock: &Clock, output: Output) -> anyhow::Result<()> {
    let turn = sealing::turn(&store.pool).await?;
    let _turn = turn.context("another `muster secrets rotate` is under way")?;
    let old = sealing::current(&store.pool).await?.id;
    let new = next(store, old)?;
    let missing = store.confirm(new.id()).await?;
    anyhow::ensure!(
        missing == 0,
        "{missing} running servers have not confirmed that they have the new master key {}: write \
         it into their files of master keys, before the old one, or restart them with it as \
         MUSTER__SECRETS__MASTER_KEY and the old one as MUSTER__SECRETS__PREVIOUS_MASTER_KEY; then \
         run this again. The old key still seals",
        new.id()
    );
    let done = sealing::rotate(&store.pool, &store.keyring, &new, store.act(clock)).await?;
    let done = done.context("another master key seals meanwhile: `muster secrets status`")?;
    store.announce().await;
    if output.json {
        return output::json(&json!({
            "from": old.to_string(), "to": done.id.to_string(), "apps": done.apps,
        }));
    }
    output::text(&format!(
        "{} seals the secrets of {} apps now\n{old} is needed only for backups made until now: {}",
        done.id,
        done.apps,
        match store.keyring.leading_file() {
            Some(_) => "`muster secrets rotate --finish` takes it out of the file",
            None => "restart all servers without it when you like",
        }
    ));
    Ok(())
}

/// The key that shall seal.
fn next(store: &Store, old: MasterKeyId) -> anyhow::Result<MasterKey> {
    let keyring = &store.keyring;
    if let Some(first) = keyring.first().filter(|first| first.id() != old) {
        return Ok(first);
    }
    let path = keyring.leading_file().context(
        "MUSTER__SECRETS__MASTER_KEY is the key that seals already. Restart all servers with a new \
         one (`muster secrets generate`) there and the old one as \
         MUSTER__SECRETS__PREVIOUS_MASTER_KEY, then run this again with both",
    )?;
    let new = MasterKey::generate();
    keyring.lead_with(path, &new)?;
    Ok(new)
}

async fn finish(store: &Store, clock: &Clock, output: Output) -> anyhow::Result<()> {
    let turn = sealing::turn(&store.pool).await?;
    let _turn = turn.context("another `muster secrets rotate` is under way")?;
    let path = store.keyring.leading_file().context(
        "the master key does not come from a file: restart all servers without \
         MUSTER__SECRETS__PREVIOUS_MASTER_KEY",
    )?;
    let gone = sealing::drop_keys(&store.pool, &store.keyring, path, store.act(clock)).await?;
    let current = sealing::current(&store.pool).await?.id;
    let gone: Vec<String> = gone.iter().map(ToString::to_string).collect();
    if output.json {
        return output::json(&json!({ "seals": current.to_string(), "dropped": gone }));
    }
    output::text(&match gone.is_empty() {
        true => "nothing to do".to_owned(),
        false => format!("dropped {}; {current} seals", gone.join(", ")),
    });
    Ok(())
}
