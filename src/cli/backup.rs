//! `muster backup`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::args::Output;
use super::database::{Database, embedded_options};
use super::explain::explain;
use super::output;
use crate::clock::Clock;
use crate::config::Settings;
use crate::service::admin::AdminContext;
use crate::service::admin::copies::{self, Manifest};

#[derive(Args)]
pub(super) struct BackupArgs {
    /// A new or an empty directory; only its owner can read it afterwards
    dir: PathBuf,
    /// Include the master key: the backup alone then suffices to open all of its secrets
    #[arg(long)]
    with_key: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(
    settings: &Settings,
    args: BackupArgs,
    clock: &Clock,
) -> anyhow::Result<()> {
    let database = Database::open_existing(settings).await?;
    let result = backup(settings, &database.admin(clock), &args).await;
    database.close().await;
    result
}

async fn backup(
    settings: &Settings,
    admin: &AdminContext,
    args: &BackupArgs,
) -> anyhow::Result<()> {
    let dir = std::path::absolute(&args.dir)
        .with_context(|| format!("cannot find {}", args.dir.display()))?;
    let programs = embedded_options(settings);
    let manifest = copies::back_up(admin, &dir, &programs, args.with_key).await.map_err(explain)?;
    let missing = args.with_key && !manifest.master_key_included;
    if args.output.json {
        output::json(
            &json!({ "dir": dir, "manifest": manifest, "keyFile": copies::key_file(admin) }),
        )?;
    } else {
        output::text(&summary(&dir, &manifest, admin))?;
    }
    anyhow::ensure!(
        !missing,
        "the active master key is not available here, so the backup does not include it"
    );
    Ok(())
}

/// The facts that an operator must know about a backup, one line each.
fn summary(dir: &Path, manifest: &Manifest, admin: &AdminContext) -> String {
    let rows = |table| manifest.rows(table);
    let backed_up = format!(
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
            "{backed_up}\nIts secrets are not sealed, and it has no signature: store it where no other \
             user can read or write it"
        );
    };
    if manifest.master_key_included {
        return format!(
            "{backed_up}\nWARNING: the master key {id} is included. A user who can read this directory \
             has every AES key and callback token: protect it like a key"
        );
    }
    let location = match copies::key_file(admin) {
        Some(file) => format!("the file {}", file.display()),
        None => "MUSTER__SECRETS__MASTER_KEY".to_owned(),
    };
    if manifest.hmac.is_none() {
        return format!(
            "{backed_up}\nWARNING: the master key {id} is not available here, so the backup is not \
             signed, and a restore cannot tell whether it was changed"
        );
    }
    format!(
        "{backed_up}\nThe master key {id} is not included, and a restore needs it. It is in {location}: keep a \
         copy of it, but not beside the backup"
    )
}
