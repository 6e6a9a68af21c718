//! `muster delivery`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::args::Output;
use super::database::Database;
use super::explain::explain;
use super::output;
use super::test_callback::explain_withheld;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::{
    AppId, AttemptRecord, Buin, DeliveryFilter, DeliveryId, DeliveryState, DeliverySummary,
    SessionId, parse_time,
};
use crate::service::admin::AdminContext;
use crate::service::admin::callbacks::{self, CallbackDetails};

/// The maximum width of an error in a table.
const MAX_ERROR_CHARS: usize = 60;

#[derive(Subcommand)]
pub(super) enum DeliveryCommand {
    /// List callbacks, the newest first, each with its receiver and the error of its last attempt
    List {
        #[command(flatten)]
        which: DeliverySelector,
        /// Only callbacks in this state: pending, leased, delivered or failed
        #[arg(long, value_name = "STATE")]
        state: Option<DeliveryState>,
        /// The maximum number of callbacks to print
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Show a callback and each attempt to send it
    Show {
        /// The id from `muster delivery list` or from the header X-Muster-Delivery
        #[arg(value_name = "ID")]
        id: DeliveryId,
        #[command(flatten)]
        output: Output,
    },
    /// Send callbacks again: one by its id, or several of an app
    ///
    /// Each callback is due at once and starts its retry schedule again. The order of the callbacks
    /// of a session stays. With --app-id, only failed callbacks are replayed unless --state says
    /// otherwise.
    Replay {
        /// The id of a callback
        #[arg(value_name = "ID", required_unless_present = "app_id", conflicts_with_all = ["app_id", "buin", "session", "since", "until", "state"])]
        id: Option<DeliveryId>,
        #[command(flatten)]
        which: DeliverySelector,
        /// Only callbacks in this state: pending, delivered or failed
        #[arg(long, value_name = "STATE", value_parser = replayable_state, requires = "app_id")]
        state: Option<DeliveryState>,
        /// Only callbacks about changes at this time or later, such as 2026-01-31T08:00:00Z
        #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "app_id")]
        since: Option<DateTime<Utc>>,
        /// Only callbacks about changes before this time
        #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "app_id")]
        until: Option<DateTime<Utc>>,
        #[command(flatten)]
        output: Output,
    },
}

/// Selects callbacks by app, enterprise and session.
#[derive(Args, Clone)]
pub(super) struct DeliverySelector {
    /// Only callbacks to this app
    #[arg(long, value_name = "ID")]
    app_id: Option<AppId>,
    /// Only callbacks to apps of this enterprise
    #[arg(long, value_name = "N")]
    buin: Option<Buin>,
    /// Only callbacks about this session
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
}

fn replayable_state(text: &str) -> Result<DeliveryState, String> {
    match text.parse()? {
        DeliveryState::Leased => {
            Err("leased: a callback that is being sent cannot be replayed".to_owned())
        }
        other => Ok(other),
    }
}

pub(super) async fn run(
    settings: &Settings,
    command: DeliveryCommand,
    clock: &Clock,
) -> anyhow::Result<()> {
    let database = Database::open_existing(settings).await?.ensure_current(settings, clock).await?;
    let admin = database.admin(clock);
    let result = match command {
        DeliveryCommand::List { which, state, limit, output } => {
            list(&admin, &DeliveryFilter { state, ..which.filter() }, limit, output).await
        }
        DeliveryCommand::Show { id, output } => show(&admin, &id, output).await,
        DeliveryCommand::Replay { id: Some(id), output, .. } => {
            replayed(callbacks::replay_one(&admin, &id).await.map_err(explain), output)
        }
        DeliveryCommand::Replay { id: None, which, state, since, until, output } => {
            let state = Some(state.unwrap_or(DeliveryState::Failed));
            let filter = DeliveryFilter { state, since, until, ..which.filter() };
            replayed(callbacks::replay(&admin, &filter).await.map_err(explain), output)
        }
    };
    database.close().await;
    result
}

impl DeliverySelector {
    fn filter(self) -> DeliveryFilter {
        let Self { app_id, buin, session: session_id } = self;
        DeliveryFilter { app_id, buin, session_id, ..DeliveryFilter::default() }
    }
}

async fn list(
    admin: &AdminContext,
    filter: &DeliveryFilter,
    limit: i64,
    output: Output,
) -> anyhow::Result<()> {
    let list = callbacks::list(admin, filter, limit).await.map_err(explain)?;
    if output.json {
        let list: Vec<DeliveryOutput> = list.iter().map(DeliveryOutput::from).collect();
        return Ok(output::json(&list)?);
    }
    let rows: Vec<[String; 7]> = list
        .iter()
        .map(|delivery| {
            let due = match delivery.state {
                DeliveryState::Pending | DeliveryState::Leased => output::time(delivery.due_at),
                DeliveryState::Delivered | DeliveryState::Failed => "-".to_owned(),
            };
            let (state, attempts) = (delivery.state.to_string(), delivery.attempts.to_string());
            let receiver = delivery.receiver.clone().unwrap_or_else(|| "-".to_owned());
            let error = delivery.last_error.as_deref().map_or_else(|| "-".to_owned(), shorten);
            let (changed, id) = (output::time(delivery.created_at), delivery.id.to_string());
            [state, attempts, changed, due, receiver, error, id]
        })
        .collect();
    output::text(&output::table(
        ["STATE", "ATTEMPTS", "CHANGED (UTC)", "NEXT ATTEMPT", "RECEIVER", "LAST ERROR", "ID"],
        &rows,
    ))?;
    Ok(())
}

async fn show(admin: &AdminContext, id: &DeliveryId, output: Output) -> anyhow::Result<()> {
    let found = callbacks::find(admin, id).await.map_err(explain)?;
    let CallbackDetails { callback: delivery, attempts, withheld } = found;
    let withheld = withheld.map(explain_withheld);
    if output.json {
        let attempts: Vec<_> = attempts.iter().map(attempt_output).collect();
        let mut printed = serde_json::to_value(DeliveryOutput::from(&delivery))?;
        printed["attemptDetails"] = attempts.into();
        printed["withheld"] = withheld.into();
        return Ok(output::json(&printed)?);
    }
    let mut lines = vec![
        format!("id            {}", delivery.id),
        format!("buin          {}", delivery.buin),
        format!("receiver      {}", delivery.receiver.as_deref().unwrap_or("-")),
        format!("state         {}", delivery.state),
        format!("changed       {} UTC", output::time(delivery.created_at)),
    ];
    if let Some(reason) = withheld {
        lines.push(format!("withheld      {reason}"));
    }
    match (delivery.state, delivery.finished_at) {
        (DeliveryState::Pending, _) => {
            lines.push(format!("next attempt  {} UTC", output::time(delivery.due_at)));
        }
        (DeliveryState::Leased, _) => {
            lines.push(format!("leased until  {} UTC", output::time(delivery.due_at)));
        }
        (_, Some(at)) => lines.push(format!("finished      {} UTC", output::time(at))),
        _ => {}
    }
    for number in 1..=delivery.attempts {
        lines.push(match attempts.iter().find(|record| record.attempt == number) {
            Some(record) => attempt_line(record),
            None if number == delivery.attempts && delivery.state == DeliveryState::Leased => {
                format!("attempt {number}: in flight")
            }
            None => {
                format!("attempt {number}: unknown, because the server that sent it ended first")
            }
        });
    }
    output::text(&lines.join("\n"))?;
    Ok(())
}

fn replayed(count: anyhow::Result<u64>, output: Output) -> anyhow::Result<()> {
    let count = count?;
    if output.json {
        return Ok(output::json(&json!({ "replayed": count }))?);
    }
    output::text(&format!("callbacks to be sent again: {count}"))?;
    Ok(())
}

/// A callback in the output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeliveryOutput {
    id: String,
    buin: i64,
    app_id: String,
    session_id: String,
    version: i64,
    state: &'static str,
    attempts: i32,
    next_attempt_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    receiver: Option<String>,
    last_error: Option<String>,
}

impl From<&DeliverySummary> for DeliveryOutput {
    fn from(delivery: &DeliverySummary) -> Self {
        Self {
            id: delivery.id.to_string(),
            buin: delivery.buin.get(),
            app_id: delivery.id.app_id.to_string(),
            session_id: delivery.id.session_id.to_string(),
            version: delivery.id.version.get(),
            state: delivery.state.name(),
            attempts: delivery.attempts,
            next_attempt_at: (delivery.state == DeliveryState::Pending).then_some(delivery.due_at),
            created_at: delivery.created_at,
            finished_at: delivery.finished_at,
            receiver: delivery.receiver.clone(),
            last_error: delivery.last_error.clone(),
        }
    }
}

fn attempt_output(record: &AttemptRecord) -> serde_json::Value {
    json!({
        "attempt": record.attempt,
        "startedAt": record.started_at,
        "durationMs": record.duration_ms,
        "status": record.status,
        "error": record.error,
        "response": record.response_excerpt,
    })
}

fn attempt_line(record: &AttemptRecord) -> String {
    let status = record.status.map_or_else(String::new, |status| format!(", status {status}"));
    let error = record.error.as_deref().unwrap_or("acknowledged");
    let response = record.response_excerpt.as_deref().filter(|text| !text.is_empty());
    let response = response.map_or_else(String::new, |text| format!(", response {text:?}"));
    format!(
        "attempt {}: {} UTC, {} ms{status}: {error}{response}",
        record.attempt,
        output::time(record.started_at),
        record.duration_ms
    )
}

/// The beginning of an error, so that a table stays readable. `muster delivery show` has all of it.
fn shorten(error: &str) -> String {
    match error.char_indices().nth(MAX_ERROR_CHARS) {
        Some((end, _)) => format!("{}…", &error[..end]),
        None => error.to_owned(),
    }
}
