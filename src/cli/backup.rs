//! `muster backup`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::args::Output;
use super::database::{Store, embedded_options};
use super::output;
use crate::clock::Clock;
use crate::config::Settings;
use crate::repository::dump::{self, Destination, Manifest};
use crate::repository::migrations::Standing;

#[derive(Args)]
pub(super) struct Backup {
    /// A new or an empty directory, which nobody else may enter afterwards
    dir: PathBuf,
    /// Put the master key into the backup: whoever has it can then open all of it
    #[arg(long)]
    with_key: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(settings: &Settings, wish: Backup, clock: &Clock) -> anyhow::Result<()> {
    let store = Store::open_existing(settings).await?;
    let done = backup(settings, &store, &wish, clock).await;
    store.close().await;
    done
}

async fn backup(
    settings: &Settings,
    store: &Store,
    wish: &Backup,
    clock: &Clock,
) -> anyhow::Result<()> {
    // Also one that this program would migrate first: that is what one makes a backup before.
    let standing = store.standing().await?;
    anyhow::ensure!(
        matches!(standing, Standing::Current | Standing::Pending(_)),
        "the database's tables are not those of this program: `muster migrate status` tells more"
    );
    let dir = std::path::absolute(&wish.dir)
        .with_context(|| format!("cannot find {}", wish.dir.display()))?;
    if wish.with_key {
        store.keyring.load()?;
    }
    let to = Destination {
        dir: &dir,
        programs: &embedded_options(settings),
        with_key: wish.with_key.then_some(&*store.keyring),
    };
    let manifest = dump::backup(&store.pool, &to, store.act(clock)).await?;
    let missing = wish.with_key && !manifest.master_key_included;
    if wish.output.json {
        output::json(&json!({ "dir": dir, "manifest": manifest, "keyFile": key_file(store) }))?;
    } else {
        output::text(&summary(&dir, &manifest, store));
    }
    anyhow::ensure!(!missing, "the master key that seals is not here, so it is not in the backup");
    Ok(())
}

/// The file that holds the master key here, by its full name.
fn key_file(store: &Store) -> Option<PathBuf> {
    let path = store.keyring.leading_file()?;
    Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

fn summary(dir: &Path, manifest: &Manifest, store: &Store) -> String {
    let rows = |table| manifest.rows(table);
    let made = format!(
        "backed up {} sessions, {} members, {} events, {} deliveries and {} apps to {} ({} MiB)",
        rows("session"),
        rows("session_member"),
        rows("session_event"),
        rows("delivery"),
        rows("app"),
        dir.display(),
        manifest.dump.bytes >> 20,
    );
    let Some(id) = &manifest.master_key else {
        return format!(
            "{made}\nIts secrets are not sealed: keep it where nobody else can read it"
        );
    };
    if manifest.master_key_included {
        return format!(
            "{made}\nWARNING: the master key {id} is in it. Whoever reads this directory has every \
             AES key and callback token: keep it as you keep keys"
        );
    }
    let place = match key_file(store) {
        Some(file) => format!("the file {}", file.display()),
        None => "MUSTER__SECRETS__MASTER_KEY".to_owned(),
    };
    format!(
        "{made}\nThe master key {id} is not in it, and without that key no app can be served. It is in \
         {place}: keep a copy elsewhere than the backup"
    )
}
