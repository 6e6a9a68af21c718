//! `muster key`.

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use super::app::explain;
use super::args::{Output, Which, one_line};
use super::database::Store;
use super::output;
use crate::clock::Clock;
use crate::config::Settings;
use crate::repository::keys::{self, StoredKey, id};
use crate::wire::ApiKey;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Create a key that acts as an app; it is shown this once
    Create {
        #[command(flatten)]
        which: Which,
        /// What people call the key
        #[arg(long, value_name = "TEXT", default_value = "", value_parser = one_line)]
        label: String,
        #[command(flatten)]
        output: Output,
    },
    /// List all keys, by their ids
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Revoke a key for ever; it is refused at once
    Revoke {
        /// The id that `key list` shows, or the key itself
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        output: Output,
    },
}

pub(super) async fn run(
    settings: &Settings,
    command: Command,
    clock: &Clock,
) -> anyhow::Result<()> {
    let store = Store::open_existing(settings).await?.current(settings, clock).await?;
    let done = match command {
        Command::Create { which, label, output } => {
            create(&store, &which, &label, output, clock).await
        }
        Command::List { output } => list(&store, output).await,
        Command::Revoke { id, output } => revoke(&store, &id, output, clock).await,
    };
    store.close().await;
    done
}

async fn create(
    store: &Store,
    which: &Which,
    label: &str,
    output: Output,
    clock: &Clock,
) -> anyhow::Result<()> {
    let key = ApiKey::generate();
    let Which { buin, app_id } = which;
    keys::insert(&store.pool, &key.hash(), *buin, app_id, label, store.act(clock))
        .await
        .map_err(explain)?;
    if output.json {
        return output::json(&json!({
            "key": key.reveal(),
            "id": id(&key.hash()),
            "buin": buin.get(),
            "appId": app_id.as_str(),
            "label": label,
        }));
    }
    output::text(key.reveal());
    Ok(())
}

async fn list(store: &Store, output: Output) -> anyhow::Result<()> {
    let keys = keys::list(&store.pool).await?;
    let printed: Vec<Printed<'_>> = keys.iter().map(Printed::from).collect();
    if output.json {
        return output::json(&printed);
    }
    let day = |at: Option<chrono::DateTime<chrono::Utc>>| {
        at.map_or_else(|| "-".to_owned(), |at| at.format("%Y-%m-%d %H:%M").to_string())
    };
    let rows: Vec<[String; 7]> = printed
        .iter()
        .map(|key| {
            [
                key.id.clone(),
                key.buin.to_string(),
                key.app_id.to_owned(),
                day(Some(key.created_at)),
                day(key.last_used_at),
                day(key.revoked_at),
                key.label.to_owned(),
            ]
        })
        .collect();
    let head = ["ID", "BUIN", "APP ID", "CREATED (UTC)", "LAST USED", "REVOKED", "LABEL"];
    output::text(&output::table(head, &rows));
    Ok(())
}

async fn revoke(store: &Store, given: &str, output: Output, clock: &Clock) -> anyhow::Result<()> {
    let given = ApiKey::recognise(given).map_or_else(|| given.to_owned(), |key| id(&key.hash()));
    let keys = keys::list(&store.pool).await?;
    let key = keys
        .iter()
        .find(|key| id(&key.hash) == given)
        .context("there is no key of this id: `muster key list` shows those that there are")?;
    let was_valid = keys::revoke(&store.pool, key, store.act(clock)).await?;
    store.announce().await;
    if output.json {
        return output::json(&json!({ "id": given, "revoked": true, "wasValid": was_valid }));
    }
    output::text(if was_valid { "revoked" } else { "was revoked already" });
    Ok(())
}

/// A key as it is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed<'a> {
    id: String,
    buin: i64,
    app_id: &'a str,
    label: &'a str,
    created_at: chrono::DateTime<chrono::Utc>,
    last_used_at: Option<chrono::DateTime<chrono::Utc>>,
    revoked_at: Option<chrono::DateTime<chrono::Utc>>,
}

impl<'a> From<&'a StoredKey> for Printed<'a> {
    fn from(key: &'a StoredKey) -> Self {
        Self {
            id: id(&key.hash),
            buin: key.buin.get(),
            app_id: key.app_id.as_str(),
            label: &key.label,
            created_at: key.created_at,
            last_used_at: key.last_used_at,
            revoked_at: key.revoked_at,
        }
    }
}
