//! `muster feed tail`: prints the changes of an enterprise as they come.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use super::args::Output;
use super::explain::explain;
use super::output;
use crate::domain::{
    Account, AppId, AttributesPatch, Buin, Changes, EventKind, FeedEvent, FeedFilter, Invalid,
    SessionId, parse_time,
};
use crate::service::admin::{AdminContext, feed};
use crate::service::{FeedCursor, FeedStart};

/// The interval between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(super) struct TailArgs {
    /// The enterprise
    #[arg(long, value_name = "N")]
    buin: Buin,
    /// The position to start: 0 for the beginning of the history, head for its end, a cursor, or a time such
    /// as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "POSITION", default_value = "head", value_parser = parse_start)]
    after: FeedStart,
    /// Only changes of sessions in which this account is a member
    #[arg(long, value_name = "ACCOUNT", value_parser = parse_account)]
    member: Option<Account>,
    /// Only changes of sessions of which this account is the owner
    #[arg(long, value_name = "ACCOUNT", value_parser = parse_account)]
    owner: Option<Account>,
    /// Only changes of this session
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// Only changes of this kind: created, updated, reverted, dissolved or restored
    #[arg(long, value_name = "KIND")]
    kind: Option<EventKind>,
    /// Only changes that this app made
    #[arg(long, value_name = "ID")]
    app_id: Option<AppId>,
    /// Stop after this number of changes
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

fn parse_account(text: &str) -> Result<Account, Invalid> {
    Account::new(text)
}

/// A position in the feed.
pub(super) fn parse_start(text: &str) -> Result<FeedStart, String> {
    match text {
        "0" => return Ok(FeedStart::Beginning),
        "head" => return Ok(FeedStart::Head),
        _ => {}
    }
    match FeedCursor::decode(text) {
        Ok(cursor) if cursor.snapshot.is_none() => Ok(FeedStart::Cursor(cursor)),
        _ => parse_time(text)
            .map(FeedStart::Time)
            .map_err(|_| "must be 0, head, a cursor or a time".to_owned()),
    }
}

pub(super) async fn run(
    admin: &AdminContext,
    args: TailArgs,
    output: Output,
) -> anyhow::Result<()> {
    let TailArgs { buin, after, member, owner, session, kind, app_id: app, limit } = args;
    let filter = FeedFilter { member, owner, session, kind, app };
    let mut position = feed::find_position(admin, buin, after).await.map_err(explain)?;
    let mut remaining = limit.unwrap_or(usize::MAX);
    while remaining > 0 {
        let (events, next) =
            feed::changes_after(admin, buin, &filter, position).await.map_err(explain)?;
        for event in events.iter().take(remaining) {
            output::text(&if output.json { in_json(event) } else { in_words(event) })?;
        }
        remaining = remaining.saturating_sub(events.len());
        if next == position {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        position = next;
    }
    Ok(())
}

/// A change in one line of JSON.
fn in_json(FeedEvent { seq, session_id, event }: &FeedEvent) -> String {
    json!({
        "seq": seq.get(),
        "kind": event.kind.name(),
        "sessionId": session_id.to_string(),
        "version": event.version.get(),
        "operator": event.operator.as_str(),
        "app": event.app_id.as_str(),
        "reason": event.reason.as_ref().map(|reason| reason.as_str()),
        "at": event.at,
        "changes": changes(&event.changes),
    })
    .to_string()
}

/// The changed fields, with the names of the API.
fn changes(changes: &Changes) -> Value {
    let accounts = |list: &[Account]| -> Value { list.iter().map(Account::as_str).collect() };
    let some = |list: &[Account]| (!list.is_empty()).then(|| accounts(list));
    let fields = [
        ("title", changes.title.as_ref().map(|title| title.as_str().into())),
        ("owner", changes.owner.as_ref().map(|owner| owner.as_str().into())),
        ("member", changes.members.as_deref().map(accounts)),
        ("addMember", some(&changes.added)),
        ("delMember", some(&changes.removed)),
        ("attributes", changes.attributes.as_ref().map(|patch| attributes(patch).clone().into())),
    ];
    let set = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(set.collect())
}

fn attributes(patch: &AttributesPatch) -> &Map<String, Value> {
    patch.as_map()
}

fn in_words(FeedEvent { seq, session_id, event }: &FeedEvent) -> String {
    let at = output::time(event.at);
    let (kind, version, operator) = (event.kind, event.version, event.operator.as_str());
    format!("{} {at} UTC {session_id} {kind} version {version} by {operator}", seq.get())
}
