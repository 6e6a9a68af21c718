//! `muster restore`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::args::Output;
use super::database::{self, Store, embedded_options};
use super::output;
use crate::clock::Clock;
use crate::config::Settings;
use crate::repository::dump::{self, Backup};
use crate::repository::migrations::{self, Standing};
use crate::repository::{KeyFile, Keyring, apps};
use crate::wire::MasterKeyId;

#[derive(Args)]
pub(super) struct Restore {
    /// The directory that `muster backup` made
    dir: PathBuf,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(settings: &Settings, wish: Restore, clock: &Clock) -> anyhow::Result<()> {
    // All that can be refused is refused before a database is made for it.
    let backup = Backup::open(&wish.dir)?;
    let newer = migrations::unknown(&backup.manifest.migrations);
    anyhow::ensure!(
        newer.is_empty(),
        "the backup is newer than this program: it has migrations {newer:?}. It was made by Muster \
         {}: restore it with that one or a newer one",
        backup.manifest.muster
    );
    let key = key(settings, &backup)?;
    let store = Store::open(settings).await?;
    let done = restore(settings, &store, &backup, key, &wish, clock).await;
    store.close().await;
    done
}

async fn restore(
    settings: &Settings,
    store: &Store,
    backup: &Backup,
    key: Option<(Keyring, MasterKeyId)>,
    wish: &Restore,
    clock: &Clock,
) -> anyhow::Result<()> {
    let standing = store.standing().await?;
    anyhow::ensure!(
        matches!(standing, Standing::Current | Standing::Pending(_)),
        "the target's tables are not those of this program: `muster migrate status` tells more; use \
         a new database"
    );
    dump::restore(&store.pool, backup, &embedded_options(settings)).await?;
    if let Some((keyring, id)) = key {
        keyring.save(&database::own_key_file(settings), id)?;
    }
    let migrated = store.migrate(clock).await?.len();
    let apps = apps::list(&store.pool, &store.keyring)
        .await
        .context("the data are restored, but the secrets of an app cannot be opened")?;
    dump::note_restored(&store.pool, backup, store.act(clock)).await?;
    let manifest = &backup.manifest;
    if wish.output.json {
        return output::json(&json!({
            "at": manifest.at, "tables": manifest.tables, "apps": apps.len(), "migrated": migrated,
        }));
    }
    output::text(&format!(
        "restored the backup of {}: {} sessions, {} members, {} events, {} deliveries and {} apps, \
         all as they were then\n{migrated} migrations came after it and were applied\nNext: `muster \
         serve`. Callbacks that were under way come again when their leases end",
        manifest.at.format("%F %T UTC"),
        manifest.rows("session"),
        manifest.rows("session_member"),
        manifest.rows("session_event"),
        manifest.rows("delivery"),
        apps.len(),
    ));
    Ok(())
}

/// Makes sure that the key that the backup needs is here, or will be. Gives the one in the
/// backup, if that is to become the key of this data directory.
fn key(settings: &Settings, backup: &Backup) -> anyhow::Result<Option<(Keyring, MasterKeyId)>> {
    let Some(id) = backup.manifest.master_key.as_deref() else { return Ok(None) };
    let id = MasterKeyId::parse(id).context("backup.json: masterKey is no id of a key")?;
    let here = database::keyring(settings);
    let loaded = here.load();
    if loaded.is_ok() && here.find(id).is_some() {
        return Ok(None);
    }
    let own = database::own_key_file(settings);
    let may_be_made = settings.database.url.is_none()
        && settings.secrets.master_key.is_none()
        && settings.secrets.master_key_file.is_none()
        && !own.exists();
    let included = backup.key();
    if let (Some(file), true) = (&included, may_be_made) {
        let theirs = Keyring::new(None, Some(KeyFile { path: file.clone(), make: false }), None);
        theirs.load()?;
        anyhow::ensure!(theirs.find(id).is_some(), "{} is not the key {id}", file.display());
        return Ok(Some((theirs, id)));
    }
    let ids = here.ids().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let found = if ids.is_empty() { "none is here".to_owned() } else { format!("here is {ids}") };
    let from = included.map_or_else(
        || "the file or variable that the server had".to_owned(),
        |file| file.display().to_string(),
    );
    anyhow::bail!(
        "the backup is sealed with the master key {id}, and {found}; nothing was restored. Take it \
         from {from} and give it to this command and to the servers: as the file that \
         secrets.master_key_file names, as MUSTER__SECRETS__MASTER_KEY{}",
        match settings.database.url {
            Some(_) => String::new(),
            None => format!(", or as {}", own.display()),
        }
    )
}
