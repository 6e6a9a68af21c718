//! `muster feed`.

use clap::Subcommand;
use serde_json::json;

use super::args::Output;
use super::database::Database;
use super::explain::explain;
use super::feed_consumers::{self, ConsumerSelector};
use super::feed_tail::{self, TailArgs};
use super::output;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::{AppId, Buin};
use crate::service::FeedStart;
use crate::service::admin::{AdminContext, feed};

#[derive(Subcommand)]
pub(super) enum FeedCommand {
    /// List the consumers, those with the largest lag first
    List {
        /// Only consumers of apps of this enterprise
        #[arg(long, value_name = "N")]
        buin: Option<Buin>,
        /// Only consumers of this app
        #[arg(long, value_name = "ID")]
        app_id: Option<AppId>,
        #[command(flatten)]
        output: Output,
    },
    /// Show a consumer, its members and its parked events
    Show {
        #[command(flatten)]
        which: ConsumerSelector,
        #[command(flatten)]
        output: Output,
    },
    /// Move a consumer to another position
    ///
    /// Events that its members have are forgotten, as are parked ones.
    Reset {
        #[command(flatten)]
        which: ConsumerSelector,
        /// The position: 0 for the beginning of the history, head for its end, a cursor, or a time such as
        /// 2026-01-31T08:00:00Z
        #[arg(long, value_name = "POSITION", value_parser = feed_tail::parse_start)]
        start: FeedStart,
        #[command(flatten)]
        output: Output,
    },
    /// Hand out parked events of a consumer again
    ///
    /// The later events of their sessions follow.
    Release {
        #[command(flatten)]
        which: ConsumerSelector,
        /// Only the event of this number, which `muster feed show` lists; can be repeated
        #[arg(long, value_name = "N")]
        seq: Vec<u32>,
        /// Let the events count as done instead
        #[arg(long)]
        discard: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Print the changes of an enterprise as they come
    Tail {
        #[command(flatten)]
        args: TailArgs,
        #[command(flatten)]
        output: Output,
    },
    /// Begin another epoch after a recovery by other tools, such as a point-in-time recovery
    ///
    /// A database that has lost changes gives their numbers to other changes. A client that has read a
    /// number before must then begin again, which it notices by the epoch. `muster restore`
    /// begins another epoch by itself. Servers may run.
    NewEpoch {
        #[command(flatten)]
        output: Output,
    },
}

pub(super) async fn run(
    settings: &Settings,
    command: FeedCommand,
    clock: &Clock,
) -> anyhow::Result<()> {
    let database = Database::open_existing(settings).await?.ensure_current(settings, clock).await?;
    let admin = database.admin(clock);
    let result = match command {
        FeedCommand::List { buin, app_id, output } => {
            feed_consumers::list(&admin, buin, app_id.as_ref(), output).await
        }
        FeedCommand::Show { which, output } => feed_consumers::show(&admin, &which, output).await,
        FeedCommand::Reset { which, start, output } => {
            feed_consumers::reset(&admin, &which, start, output).await
        }
        FeedCommand::Release { which, seq, discard, output } => {
            feed_consumers::release(&admin, &which, &seq, discard, output).await
        }
        FeedCommand::Tail { args, output } => feed_tail::run(&admin, args, output).await,
        FeedCommand::NewEpoch { output } => new_epoch(&admin, output).await,
    };
    database.close().await;
    result
}

async fn new_epoch(admin: &AdminContext, output: Output) -> anyhow::Result<()> {
    let epoch = feed::renew_epoch(admin).await.map_err(explain)?;
    if output.json {
        return Ok(output::json(&json!({ "epoch": epoch.to_string() }))?);
    }
    output::text(&format!("{epoch} is the epoch now"))?;
    Ok(())
}
