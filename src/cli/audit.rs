//! `muster audit`.

use chrono::{DateTime, Utc};
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use serde_json::Value;

use super::args::Output;
use super::database::Database;
use super::explain::explain;
use super::output;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::{AppId, AuditEntry, AuditFilter, Buin, parse_time};
use crate::service::admin::{AdminContext, audit};

#[derive(Subcommand)]
pub(super) enum AuditCommand {
    /// List administrative acts, the newest first
    List {
        /// Only acts at this time or later, such as 2026-01-31T08:00:00Z
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        since: Option<DateTime<Utc>>,
        /// Only acts before this time
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        until: Option<DateTime<Utc>>,
        /// Only this action, such as app.create; or all actions of a noun, such as app
        #[arg(long, value_name = "ACTION", value_parser = actions())]
        action: Option<String>,
        /// Only acts on this app
        #[arg(long, value_name = "ID")]
        app_id: Option<AppId>,
        /// Only acts on apps of this enterprise
        #[arg(long, value_name = "N")]
        buin: Option<Buin>,
        /// The maximum number of acts to print
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
}

/// The values of `--action`: every action, and before the actions of a noun the noun itself.
fn actions() -> PossibleValuesParser {
    PossibleValuesParser::new(audit::actions())
}

pub(super) async fn run(
    settings: &Settings,
    command: AuditCommand,
    clock: &Clock,
) -> anyhow::Result<()> {
    let AuditCommand::List { since, until, action, app_id, buin, limit, output } = command;
    let database = Database::open_existing(settings).await?.ensure_current(settings, clock).await?;
    let filter = AuditFilter { since, until, action, app_id, buin };
    let result = list(&database.admin(clock), &filter, limit, output).await;
    database.close().await;
    result
}

async fn list(
    admin: &AdminContext,
    filter: &AuditFilter,
    limit: i64,
    output: Output,
) -> anyhow::Result<()> {
    let entries = audit::list(admin, filter, limit).await.map_err(explain)?;
    if output.json {
        let entries: Vec<AuditEntryOutput> =
            entries.into_iter().map(AuditEntryOutput::from).collect();
        return Ok(output::json(&entries)?);
    }
    let rows: Vec<[String; 5]> = entries.into_iter().map(row).collect();
    output::text(&output::table(["TIME (UTC)", "ACTION", "APP", "OPERATOR", "DETAILS"], &rows))?;
    Ok(())
}

fn row(entry: AuditEntry) -> [String; 5] {
    let subject = match (entry.buin, entry.app_id) {
        (Some(buin), Some(app_id)) => format!("{buin}/{app_id}"),
        (Some(buin), None) => format!("{buin}/*"),
        (None, Some(app_id)) => app_id,
        (None, None) => "-".to_owned(),
    };
    let sudo = entry.sudo_user.map_or_else(String::new, |user| format!(" (sudo by {user})"));
    let actor = format!("{}@{}[{}]{sudo}", entry.actor, entry.host, entry.pid);
    let at = output::time(entry.at);
    [at, entry.action, subject, actor, entry.details.to_string()]
}

/// An entry in the output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AuditEntryOutput {
    at: DateTime<Utc>,
    action: String,
    actor: String,
    sudo_user: Option<String>,
    host: String,
    pid: i64,
    buin: Option<i64>,
    app_id: Option<String>,
    details: Value,
}

impl From<AuditEntry> for AuditEntryOutput {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { at, action, actor, sudo_user, host, pid, buin, app_id, details } = entry;
        Self { at, action, actor, sudo_user, host, pid, buin, app_id, details }
    }
}
