//! `muster audit`.

use chrono::{DateTime, Utc};
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use serde_json::Value;

use super::args::Output;
use super::database::Store;
use super::explain::explain;
use super::output;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::{AppId, Buin};
use crate::service::admin::AdminContext;
use crate::service::admin::audit::{self, AdministrativeAct, AuditFilter};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List administrative acts, the newest first
    List {
        /// Only acts at this time or later, such as 2026-01-31T08:00:00Z
        #[arg(long, value_name = "TIME")]
        since: Option<DateTime<Utc>>,
        /// Only acts before this time
        #[arg(long, value_name = "TIME")]
        until: Option<DateTime<Utc>>,
        /// Only this action, such as app.create; or all actions of a noun, such as app
        #[arg(long, value_name = "ACTION", value_parser = actions())]
        action: Option<String>,
        /// Only acts on this app
        #[arg(long, value_name = "ID")]
        app: Option<AppId>,
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
    command: Command,
    clock: &Clock,
) -> anyhow::Result<()> {
    let Command::List { since, until, action, app, buin, limit, output } = command;
    let store = Store::open_existing(settings).await?.current(settings, clock).await?;
    let filter = AuditFilter { since, until, action, app_id: app, buin };
    let done = list(&store.admin(clock), filter, limit, output).await;
    store.close().await;
    done
}

async fn list(
    admin: &AdminContext,
    filter: AuditFilter,
    limit: i64,
    output: Output,
) -> anyhow::Result<()> {
    let lines = audit::list(admin, filter, limit).await.map_err(explain)?;
    if output.json {
        let lines: Vec<Printed> = lines.into_iter().map(Printed::from).collect();
        return output::json(&lines);
    }
    let rows: Vec<[String; 5]> = lines.into_iter().map(row).collect();
    output::text(&output::table(["TIME (UTC)", "ACTION", "APP", "OPERATOR", "DETAILS"], &rows));
    Ok(())
}

fn row(line: AdministrativeAct) -> [String; 5] {
    let about = match (line.buin, line.app_id) {
        (Some(buin), Some(app_id)) => format!("{buin}/{app_id}"),
        (Some(buin), None) => format!("{buin}/*"),
        (None, Some(app_id)) => app_id,
        (None, None) => "-".to_owned(),
    };
    let sudo = line.sudo_user.map_or_else(String::new, |user| format!(" (sudo by {user})"));
    let who = format!("{}@{}[{}]{sudo}", line.actor, line.host, line.pid);
    let at = line.at.format("%Y-%m-%d %H:%M:%S").to_string();
    [at, line.action, about, who, line.details.to_string()]
}

/// An act as it is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed {
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

impl From<AdministrativeAct> for Printed {
    fn from(line: AdministrativeAct) -> Self {
        let AdministrativeAct { at, action, actor, sudo_user, host, pid, buin, app_id, details } =
            line;
        Self { at, action, actor, sudo_user, host, pid, buin, app_id, details }
    }
}
