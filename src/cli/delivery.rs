//! `muster delivery`.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::args::Output;
use super::database::Store;
use super::output;
use super::test_callback::withheld;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::{AppId, Buin, DeliveryId, DeliveryState, SessionId};
use crate::repository::apps;
use crate::repository::deliveries::{self, Attempt, Filter, Listed};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List callbacks, the newest first
    List {
        #[command(flatten)]
        which: Which,
        /// Only these: pending, leased, delivered or failed
        #[arg(long, value_name = "STATE")]
        state: Option<DeliveryState>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Show a callback and each try of sending it
    Show {
        /// Its id, as in the list and in the header X-Muster-Delivery
        #[arg(value_name = "ID")]
        id: DeliveryId,
        #[command(flatten)]
        output: Output,
    },
    /// Send callbacks again: one by its id, or an app's
    ///
    /// Each is due at once and has the whole schedule before it again. Their order holds among
    /// them. Of an app only failed ones are replayed, unless --state says otherwise.
    Replay {
        /// The id of one
        #[arg(value_name = "ID", required_unless_present = "app", conflicts_with_all = ["app", "buin", "session", "since", "until", "state"])]
        id: Option<DeliveryId>,
        #[command(flatten)]
        which: Which,
        /// Those in this state: pending, delivered or failed
        #[arg(long, value_name = "STATE", value_parser = ended, requires = "app")]
        state: Option<DeliveryState>,
        /// Those of changes at this time or later, as 2026-01-31T08:00:00Z
        #[arg(long, value_name = "TIME", requires = "app")]
        since: Option<DateTime<Utc>>,
        /// Those of changes before this time
        #[arg(long, value_name = "TIME", requires = "app")]
        until: Option<DateTime<Utc>>,
        #[command(flatten)]
        output: Output,
    },
}

/// Names an app, a session, or both.
#[derive(Args, Clone)]
pub(super) struct Which {
    /// To this app
    #[arg(long, value_name = "ID")]
    app: Option<AppId>,
    /// To apps of this enterprise
    #[arg(long, value_name = "N")]
    buin: Option<Buin>,
    /// Of this session
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
}

fn ended(text: &str) -> Result<DeliveryState, String> {
    match text.parse()? {
        DeliveryState::Leased => Err("what is being sent cannot be replayed".to_owned()),
        other => Ok(other),
    }
}

pub(super) async fn run(
    settings: &Settings,
    command: Command,
    clock: &Clock,
) -> anyhow::Result<()> {
    let store = Store::open_existing(settings).await?.current(settings, clock).await?;
    let done = match command {
        Command::List { which, state, limit, output } => {
            list(&store, &Filter { state, ..which.filter() }, limit, output).await
        }
        Command::Show { id, output } => show(&store, &id, output).await,
        Command::Replay { id, which, state, since, until, output } => {
            let state = match id {
                Some(_) => None,
                None => Some(state.unwrap_or(DeliveryState::Failed)),
            };
            let filter = Filter { id, state, since, until, ..which.filter() };
            replay(&store, filter, clock, output).await
        }
    };
    store.close().await;
    done
}

impl Which {
    fn filter(self) -> Filter {
        Filter { app_id: self.app, buin: self.buin, session_id: self.session, ..Filter::default() }
    }
}

async fn list(store: &Store, filter: &Filter, limit: i64, output: Output) -> anyhow::Result<()> {
    let list = deliveries::list(&store.pool, filter, limit).await?;
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
    output::text(&output::table(["STATE", "TRIES", "CHANGED (UTC)", "NEXT TRY", "ID"], &rows));
    Ok(())
}

async fn show(store: &Store, id: &DeliveryId, output: Output) -> anyhow::Result<()> {
    let found = deliveries::find(&store.pool, id).await?;
    let listed = found.context(NO_SUCH)?;
    let attempts = deliveries::attempts(&store.pool, id).await?;
    let withheld = match listed.state {
        DeliveryState::Pending => {
            let Listed { buin, id: DeliveryId { app_id, .. }, .. } = &listed;
            withheld(&apps::find(&store.pool, &store.keyring, *buin, app_id).await?.app)
        }
        _ => None,
    };
    if output.json {
        let attempts: Vec<_> = attempts.iter().map(printed_attempt).collect();
        let mut printed = serde_json::to_value(Printed::from(&listed))?;
        printed["tries"] = attempts.into();
        printed["withheld"] = withheld.into();
        return output::json(&printed);
    }
    let mut lines = vec![
        format!("id        {}", listed.id),
        format!("buin      {}", listed.buin),
        format!("state     {}", listed.state),
        format!("changed   {} UTC", time(listed.created_at)),
    ];
    if let Some(why) = withheld {
        lines.push(format!("withheld  {why}"));
    }
    match (listed.state, listed.finished_at) {
        (DeliveryState::Pending, _) => lines.push(format!("next try  {} UTC", time(listed.due_at))),
        (DeliveryState::Leased, _) => lines.push(format!("leased to {} UTC", time(listed.due_at))),
        (_, Some(at)) => lines.push(format!("ended     {} UTC", time(at))),
        _ => {}
    }
    for number in 1..=listed.attempts {
        lines.push(match attempts.iter().find(|attempt| attempt.attempt == number) {
            Some(attempt) => line(attempt),
            None if number == listed.attempts && listed.state == DeliveryState::Leased => {
                format!("try {number}: under way")
            }
            None => format!("try {number}: the server that sent it ended before it told"),
        });
    }
    output::text(&lines.join("\n"));
    Ok(())
}

async fn replay(
    store: &Store,
    mut filter: Filter,
    clock: &Clock,
    output: Output,
) -> anyhow::Result<()> {
    if let Some(id) = &filter.id {
        let found = deliveries::find(&store.pool, id).await?.context(NO_SUCH)?;
        anyhow::ensure!(found.state != DeliveryState::Leased, "it is being sent right now");
        filter.buin = Some(found.buin);
    }
    if let Some(app_id) = &filter.app_id {
        let apps = apps::list(&store.pool, &store.keyring).await?;
        let known = apps.iter().any(|stored| stored.app.app_id == *app_id);
        anyhow::ensure!(known, "there is no app {app_id}: `muster app list` shows those that are");
    }
    let count = deliveries::replay(&store.pool, &filter, store.act(clock)).await?;
    if output.json {
        return output::json(&json!({ "replayed": count }));
    }
    output::text(&format!("{count} to be sent again"));
    Ok(())
}

const NO_SUCH: &str =
    "there is no such callback: `muster delivery list` shows those that there are";

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

impl From<&Listed> for Printed {
    fn from(listed: &Listed) -> Self {
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

fn printed_attempt(attempt: &Attempt) -> serde_json::Value {
    json!({
        "attempt": attempt.attempt,
        "startedAt": attempt.started_at,
        "durationMs": attempt.duration_ms,
        "status": attempt.status,
        "error": attempt.error,
        "answer": attempt.answer,
    })
}

fn line(attempt: &Attempt) -> String {
    let status = attempt.status.map_or_else(String::new, |status| format!(", status {status}"));
    let error = attempt.error.as_deref().unwrap_or("acknowledged");
    let answer = attempt.answer.as_deref().filter(|answer| !answer.is_empty());
    let answer = answer.map_or_else(String::new, |answer| format!(", answer {answer:?}"));
    format!(
        "try {}: {} UTC, {} ms{status}: {error}{answer}",
        attempt.attempt,
        time(attempt.started_at),
        attempt.duration_ms
    )
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
