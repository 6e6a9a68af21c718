//! `muster restore`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::args::Output;
use super::database::{Database, embedded_options};
use super::explain::explain;
use super::{master_keys, output};
use crate::clock::Clock;
use crate::config::Settings;
use crate::service::admin::Error;
use crate::service::admin::copies::{self, CheckedBackup, RestoreKeys, RestoreSummary};

#[derive(Args)]
pub(super) struct RestoreArgs {
    /// The directory that `muster backup` wrote
    dir: PathBuf,
    /// Restore a backup that no master key of this machine has signed: one without a signature, or
    /// one that only the key inside of it verifies. Any user who could write to DIR may have put
    /// apps, API keys and sessions into it
    #[arg(long)]
    accept_unauthenticated: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(
    settings: &Settings,
    args: RestoreArgs,
    clock: &Clock,
) -> anyhow::Result<()> {
    // The backup is checked before a database is created for it.
    let backup = open(settings, &args)?;
    let database = Database::open(settings).await?;
    let programs = embedded_options(settings);
    let result = match copies::restore(&database.admin(clock), &backup, &programs).await {
        Ok(restored) => report(&backup, restored, args.output),
        Err(Error::ForeignSchema) => Err(anyhow::anyhow!(
            "the target's schema was not made by this version of Muster: `muster migrate status` shows \
             the difference; use a new database"
        )),
        Err(error) => Err(explain(error)),
    };
    database.close().await;
    result
}

/// Opens the backup. The key in it may become the key of this data directory if none is configured.
fn open(settings: &Settings, args: &RestoreArgs) -> anyhow::Result<CheckedBackup> {
    let keyring = master_keys::keyring(settings);
    let own = master_keys::own_key_file(settings);
    let is_unconfigured = settings.database.url.is_none()
        && settings.secrets.master_key.is_none()
        && settings.secrets.master_key_file.is_none();
    let key_file = is_unconfigured.then_some(own.as_path());
    let keys = RestoreKeys { keyring: &keyring, key_file };
    let opened = copies::open_backup(&args.dir, &keys, args.accept_unauthenticated);
    opened.map_err(|error| match error {
        Error::BackupNotSigned(_) | Error::BackupVouchesForItself(_) => anyhow::anyhow!(
            "{error}. Nothing was restored. If you know where the backup comes from, and that no other \
             user could write to it, add --accept-unauthenticated"
        ),
        Error::BackupKeyMissing { id, available, included } => {
            let ids = available.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let found = if ids.is_empty() {
                "no key is available here".to_owned()
            } else {
                format!("only {ids} is available here")
            };
            let from = included.map_or_else(
                || "the file or variable of the old server".to_owned(),
                |file| file.display().to_string(),
            );
            let or_own = match settings.database.url {
                Some(_) => String::new(),
                None => format!(", or as {}", own.display()),
            };
            anyhow::anyhow!(
                "the backup is sealed with the master key {id}, and {found}; nothing was restored. \
                 Take it from {from} and give it to this command and to the servers: as the file \
                 that secrets.master_key_file names, as MUSTER__SECRETS__MASTER_KEY{or_own}"
            )
        }
        other => explain(other),
    })
}

fn report(backup: &CheckedBackup, restored: RestoreSummary, output: Output) -> anyhow::Result<()> {
    let RestoreSummary { apps, migrated } = restored;
    let manifest = backup.manifest();
    if output.json {
        return Ok(output::json(&json!({
            "at": manifest.at, "tables": manifest.tables, "apps": apps, "migrated": migrated,
        }))?);
    }
    output::text(&format!(
        "restored the backup of {}: {} sessions, {} members, {} events, {} deliveries and {} apps, \
         all as they were then\n{migrated} later migrations were applied\nNext: `muster serve`. Callbacks that \
         were in flight are sent again when their leases end",
        manifest.at.format("%F %T UTC"),
        manifest.rows("session"),
        manifest.rows("session_member"),
        manifest.rows("session_event"),
        manifest.rows("delivery"),
        apps,
    ))?;
    Ok(())
}
