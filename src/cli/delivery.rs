//! `muster delivery`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::args::Output;
use super::database::Store;
use super::explain::explain;
use super::output;
use super::test_callback::explain_withheld;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::{AppId, Buin, DeliveryId, DeliveryState, SessionId};
use crate::service::admin::AdminContext;
use crate::service::admin::callbacks::{
    self, CallbackAttempt, CallbackDetails, CallbackFilter, CallbackSummary,
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List callbacks, the newest first
    List {
        #[command(flatten)]
        which: Which,
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
    /// of a session stays. With --app, only failed callbacks are replayed unless --state says
    /// otherwise.
    Replay {
        /// The id of a callback
        #[arg(value_name = "ID", required_unless_present = "app", conflicts_with_all = ["app", "buin", "session", "since", "until", "state"])]
        id: Option<DeliveryId>,
        #[command(flatten)]
        which: Which,
        /// Only callbacks in this state: pending, delivered or failed
        #[arg(long, value_name = "STATE", value_parser = ended, requires = "app")]
        state: Option<DeliveryState>,
        /// Only callbacks about changes at this time or later, such as 2026-01-31T08:00:00Z
        #[arg(long, value_name = "TIME", requires = "app")]
        since: Option<DateTime<Utc>>,
        /// Only callbacks about changes before this time
        #[arg(long, value_name = "TIME", requires = "app")]
        until: Option<DateTime<Utc>>,
        #[command(flatten)]
        output: Output,
    },
}

/// Selects callbacks by app, enterprise and session.
#[derive(Args, Clone)]
pub(super) struct Which {
    /// Only callbacks to this app
    #[arg(long, value_name = "ID")]
    app: Option<AppId>,
    /// Only callbacks to apps of this enterprise
    #[arg(long, value_name = "N")]
    buin: Option<Buin>,
    /// Only callbacks about this session
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
}

fn ended(text: &str) -> Result<DeliveryState, String> {
    match text.parse()? {
        DeliveryState::Leased => {
            Err("leased: a callback that is being sent cannot be replayed".to_owned())
        }
        other => Ok(other),
    }
}

pub(super) async fn run(
    settings: &Settings,
    command: Command,
    clock: &Clock,
) -> anyhow::Result<()> {
    let store = Store::open_existing(settings).await?.current(settings, clock).await?;
    let admin = store.admin(clock);
    let done = match command {
        Command::List { which, state, limit, output } => {
            list(&admin, CallbackFilter { state, ..which.filter() }, limit, output).await
        }
        Command::Show { id, output } => show(&admin, &id, output).await,
        Command::Replay { id: Some(id), output, .. } => {
            replayed(callbacks::replay_one(&admin, &id).await.map_err(explain), output)
        }
        Command::Replay { id: None, which, state, since, until, output } => {
            let state = Some(state.unwrap_or(DeliveryState::Failed));
            let filter = CallbackFilter { state, since, until, ..which.filter() };
            replayed(callbacks::replay(&admin, filter).await.map_err(explain), output)
        }
    };
    store.close().await;
    done
}

impl Which {
    fn filter(self) -> CallbackFilter {
        let Self { app: app_id, buin, session: session_id } = self;
        CallbackFilter { app_id, buin, session_id, ..CallbackFilter::default() }
    }
}

async fn list(
    admin: &AdminContext,
    filter: CallbackFilter,
    limit: i64,
    output: Output,
) -> anyhow::Result<()> {
    let list = callbacks::list(admin, filter, limit).await.map_err(explain)?;
    if output.json {
        let list: Vec<Printed> = list.iter().map(Printed::from).collect();
        return output::json(&list);
    }
    let rows: Vec<[String; 5]> = list
        .iter()
        .map(|one| {
            let due = match one.state {
                DeliveryState::Pending | DeliveryState::Leased => time(one.due_at),
                DeliveryState::Delivered | DeliveryState::Failed => "-".to_owned(),
            };
            let (state, attempts) = (one.state.to_string(), one.attempts.to_string());
            [state, attempts, time(one.created_at), due, one.id.to_string()]
        })
        .collect();
    output::text(&output::table(
        ["STATE", "ATTEMPTS", "CHANGED (UTC)", "NEXT ATTEMPT", "ID"],
        &rows,
    ));
    Ok(())
}

async fn show(admin: &AdminContext, id: &DeliveryId, output: Output) -> anyhow::Result<()> {
    let found = callbacks::find(admin, id).await.map_err(explain)?;
    let CallbackDetails { callback: listed, attempts, withheld } = found;
    let withheld = withheld.map(explain_withheld);
    if output.json {
        let attempts: Vec<_> = attempts.iter().map(printed_attempt).collect();
        let mut printed = serde_json::to_value(Printed::from(&listed))?;
        printed["tries"] = attempts.into();
        printed["withheld"] = withheld.into();
        return output::json(&printed);
    }
    let mut lines = vec![
        format!("id            {}", listed.id),
        format!("buin          {}", listed.buin),
        format!("state         {}", listed.state),
        format!("changed       {} UTC", time(listed.created_at)),
    ];
    if let Some(why) = withheld {
        lines.push(format!("withheld      {why}"));
    }
    match (listed.state, listed.finished_at) {
        (DeliveryState::Pending, _) => {
            lines.push(format!("next attempt  {} UTC", time(listed.due_at)));
        }
        (DeliveryState::Leased, _) => {
            lines.push(format!("leased until  {} UTC", time(listed.due_at)));
        }
        (_, Some(at)) => lines.push(format!("finished      {} UTC", time(at))),
        _ => {}
    }
    for number in 1..=listed.attempts {
        lines.push(match attempts.iter().find(|attempt| attempt.number == number) {
            Some(attempt) => line(attempt),
            None if number == listed.attempts && listed.state == DeliveryState::Leased => {
                format!("attempt {number}: in flight")
            }
            None => {
                format!("attempt {number}: unknown, because the server that sent it ended first")
            }
        });
    }
    output::text(&lines.join("\n"));
    Ok(())
}

fn replayed(count: anyhow::Result<u64>, output: Output) -> anyhow::Result<()> {
    let count = count?;
    if output.json {
        return output::json(&json!({ "replayed": count }));
    }
    output::text(&format!("callbacks to be sent again: {count}"));
    Ok(())
}

/// A callback as it is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed {
    id: String,
    buin: i64,
    app_id: String,
    session_id: String,
    version: i64,
    state: &'static str,
    attempts: i32,
    next_try_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

impl From<&CallbackSummary> for Printed {
    fn from(listed: &CallbackSummary) -> Self {
        Self {
            id: listed.id.to_string(),
            buin: listed.buin.get(),
            app_id: listed.id.app_id.to_string(),
            session_id: listed.id.session_id.to_string(),
            version: listed.id.version.get(),
            state: listed.state.name(),
            attempts: listed.attempts,
            next_try_at: (listed.state == DeliveryState::Pending).then_some(listed.due_at),
            created_at: listed.created_at,
            finished_at: listed.finished_at,
        }
    }
}

fn printed_attempt(attempt: &CallbackAttempt) -> serde_json::Value {
    json!({
        "attempt": attempt.number,
        "startedAt": attempt.started_at,
        "durationMs": attempt.duration_ms,
        "status": attempt.status,
        "error": attempt.error,
        "answer": attempt.answer,
    })
}

fn line(attempt: &CallbackAttempt) -> String {
    let status = attempt.status.map_or_else(String::new, |status| format!(", status {status}"));
    let error = attempt.error.as_deref().unwrap_or("acknowledged");
    let answer = attempt.answer.as_deref().filter(|answer| !answer.is_empty());
    let answer = answer.map_or_else(String::new, |answer| format!(", response {answer:?}"));
    format!(
        "attempt {}: {} UTC, {} ms{status}: {error}{answer}",
        attempt.number,
        time(attempt.started_at),
        attempt.duration_ms
    )
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
