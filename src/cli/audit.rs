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
use crate::domain::{AppId, AuditChainFault, AuditEntry, AuditFilter, Buin, parse_time};
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
    /// Check that no line was changed, removed or inserted
    ///
    /// Each line has a hash of itself and of the line before. The command prints the hash of the last
    /// line, the head. Keep it outside of the database, and give it to a later check.
    Verify {
        /// The head that an earlier check printed: 64 hexadecimal digits. The check fails if no line has it
        #[arg(long, value_name = "HASH", value_parser = hash)]
        expect: Option<String>,
        #[command(flatten)]
        output: Output,
    },
}

/// A SHA-256 as hexadecimal digits.
fn hash(text: &str) -> Result<String, String> {
    match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => {
            Err(format!("must be 64 hexadecimal digits, got {} characters", text.chars().count()))
        }
    }
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
    let database = Database::open_existing(settings).await?.ensure_current(settings, clock).await?;
    let admin = database.admin(clock);
    let result = match command {
        AuditCommand::List { since, until, action, app_id, buin, limit, output } => {
            let filter = AuditFilter { since, until, action, app_id, buin };
            list(&admin, &filter, limit, output).await
        }
        AuditCommand::Verify { expect, output } => verify(&admin, expect.as_deref(), output).await,
    };
    database.close().await;
    result
}

async fn verify(
    admin: &AdminContext,
    expected: Option<&str>,
    output: Output,
) -> anyhow::Result<()> {
    let chain = audit::verify(admin, expected).await.map_err(explain)?;
    let fault = chain.fault.as_ref().map(describe);
    let missing = expected.filter(|_| !chain.has_expected).map(|hash| {
        format!("no line has the hash {hash}: lines were removed, or all were written again")
    });
    if output.json {
        output::json(&ChainOutput {
            intact: fault.is_none() && missing.is_none(),
            lines: chain.records,
            first_at: chain.first_at,
            head: chain.head.as_deref(),
        })?;
    } else if fault.is_none() && missing.is_none() {
        let since =
            chain.first_at.map_or_else(String::new, |at| format!(" since {}", output::time(at)));
        let head = chain.head.as_deref().unwrap_or("none");
        output::text(&format!("{} lines in one chain{since}; head {head}", chain.records))?;
    }
    match fault.or(missing) {
        None => Ok(()),
        Some(fault) => anyhow::bail!("the audit was altered: {fault}"),
    }
}

/// The first line that breaks the chain, in words.
fn describe(fault: &AuditChainFault) -> String {
    let AuditChainFault { audit_id, at, action, is_altered } = fault;
    let line = format!("line {audit_id}, {action} at {} UTC,", output::time(*at));
    match is_altered {
        true => format!("{line} has another content than when it was written"),
        false => format!(
            "{line} does not follow the line before it: lines were removed, inserted or moved"
        ),
    }
}

/// The result of a check in the output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChainOutput<'a> {
    intact: bool,
    lines: u64,
    first_at: Option<DateTime<Utc>>,
    head: Option<&'a str>,
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
