//! `muster key`.

mod limits;

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use self::limits::{LimitArgs, LimitsOutput, network_text};
use super::args::{AppSelector, Output, one_line};
use super::database::Database;
use super::explain::{explain, not_shown};
use super::misconfigured::Misconfigured;
use super::output;
use super::secret_args::text_or_standard_input;
use crate::clock::Clock;
use crate::config::Settings;
use crate::service::admin::AdminContext;
use crate::service::admin::keys::{self, ApiKeySummary, CreatedApiKey, KeyLimits, Revocation};

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Create a key for an app; the key is shown this once
    Create {
        #[command(flatten)]
        which: AppSelector,
        /// A name for people
        #[arg(long, value_name = "TEXT", default_value = "", value_parser = one_line)]
        label: String,
        #[command(flatten)]
        limits: LimitArgs,
        #[command(flatten)]
        output: Output,
    },
    /// List all keys: their ids, limits and last uses, not the keys themselves
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Revoke a key permanently; it is refused at once
    Revoke {
        /// The id from `muster key list`, or the key itself. `-` reads it from standard input, where
        /// other users of this machine cannot see it
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        output: Output,
    },
}

pub(super) async fn run(
    settings: &Settings,
    mut command: KeyCommand,
    clock: &Clock,
) -> anyhow::Result<()> {
    match &mut command {
        KeyCommand::Revoke { id, .. } => {
            *id = text_or_standard_input("ID", std::mem::take(id))?;
        }
        KeyCommand::Create { limits, .. } => limits.check().map_err(Misconfigured)?,
        KeyCommand::List { .. } => {}
    }
    let database = Database::open_existing(settings).await?.ensure_current(settings, clock).await?;
    let admin = database.admin(clock);
    let result = match command {
        KeyCommand::Create { which, label, limits, output } => {
            create(&admin, &which, &label, limits.at(clock.now()), output).await
        }
        KeyCommand::List { output } => list(&admin, output).await,
        KeyCommand::Revoke { id, output } => revoke(&admin, &id, output).await,
    };
    database.close().await;
    result
}

async fn create(
    admin: &AdminContext,
    which: &AppSelector,
    label: &str,
    limits: KeyLimits,
    output: Output,
) -> anyhow::Result<()> {
    let AppSelector { buin, app_id } = which;
    let shown = LimitsOutput::from(&limits);
    let created = keys::create(admin, *buin, app_id, label, limits).await.map_err(explain)?;
    let CreatedApiKey { key, id } = created.value();
    let text = match output.json {
        true => {
            let mut printed = json!({
                "key": key.reveal(),
                "id": id,
                "buin": buin.get(),
                "appId": app_id.as_str(),
                "label": label,
            });
            shown.add_to(&mut printed);
            output::to_json(&printed)?
        }
        false => key.reveal().to_owned(),
    };
    output::secret(&text).map_err(|error| not_shown(error, "the key was not created"))?;
    created.commit(admin).await.map(drop).map_err(explain)
}

async fn list(admin: &AdminContext, output: Output) -> anyhow::Result<()> {
    let keys = keys::list(admin).await.map_err(explain)?;
    let printed: Vec<ApiKeyOutput<'_>> = keys.iter().map(ApiKeyOutput::from).collect();
    if output.json {
        return Ok(output::json(&printed)?);
    }
    let day = |at: Option<chrono::DateTime<chrono::Utc>>| {
        at.map_or_else(|| "-".to_owned(), |at| at.format("%Y-%m-%d %H:%M").to_string())
    };
    let listed = |list: &[String]| match list {
        [] => "-".to_owned(),
        list => list.join(","),
    };
    let rows: Vec<[String; 11]> = printed
        .iter()
        .map(|key| {
            [
                key.id.to_owned(),
                key.buin.to_string(),
                key.app_id.to_owned(),
                day(Some(key.created_at)),
                day(key.last_used_at),
                key.last_used_from.clone().unwrap_or_else(|| "-".to_owned()),
                day(key.limits.expires_at),
                day(key.revoked_at),
                listed(key.limits.permissions.as_deref().unwrap_or_default()),
                listed(&key.limits.networks),
                key.label.to_owned(),
            ]
        })
        .collect();
    let head = [
        "ID",
        "BUIN",
        "APP ID",
        "CREATED (UTC)",
        "LAST USED",
        "FROM",
        "EXPIRES",
        "REVOKED",
        "PERMISSIONS",
        "NETWORKS",
        "LABEL",
    ];
    output::text(&output::table(head, &rows))?;
    Ok(())
}

async fn revoke(admin: &AdminContext, given: &str, output: Output) -> anyhow::Result<()> {
    let Revocation { id, was_valid } = keys::revoke(admin, given).await.map_err(explain)?;
    if output.json {
        return Ok(output::json(&json!({ "id": id, "revoked": true, "wasValid": was_valid }))?);
    }
    output::text(if was_valid { "revoked" } else { "already revoked" })?;
    Ok(())
}

/// A key in the output, without its secret.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiKeyOutput<'a> {
    id: &'a str,
    buin: i64,
    app_id: &'a str,
    label: &'a str,
    created_at: chrono::DateTime<chrono::Utc>,
    last_used_at: Option<chrono::DateTime<chrono::Utc>>,
    last_used_from: Option<String>,
    revoked_at: Option<chrono::DateTime<chrono::Utc>>,
    #[serde(flatten)]
    limits: LimitsOutput,
}

impl<'a> From<&'a ApiKeySummary> for ApiKeyOutput<'a> {
    fn from(key: &'a ApiKeySummary) -> Self {
        Self {
            id: &key.id,
            buin: key.buin.get(),
            app_id: key.app_id.as_str(),
            label: &key.label,
            created_at: key.created_at,
            last_used_at: key.last_used_at,
            last_used_from: key.last_used_from.as_ref().map(network_text),
            revoked_at: key.revoked_at,
            limits: LimitsOutput::from(&key.limits),
        }
    }
}
