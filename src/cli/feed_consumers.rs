//! `muster feed list`, `show`, `reset` and `release`: the consumers of apps.

use clap::Args;
use serde_json::{Value, json};

use super::args::{AppSelector, Output};
use super::explain::explain;
use super::output;
use crate::domain::{AppId, Buin, ConsumerName, EventKind, FeedFilter, FeedSeq};
use crate::service::FeedStart;
use crate::service::admin::AdminContext;
use crate::service::admin::feed::{self, AppConsumer};

/// Selects a consumer.
#[derive(Args)]
pub(super) struct ConsumerSelector {
    /// The name of the consumer
    #[arg(value_name = "NAME")]
    name: ConsumerName,
    #[command(flatten)]
    app: AppSelector,
}

pub(super) async fn list(
    admin: &AdminContext,
    buin: Option<Buin>,
    app_id: Option<&AppId>,
    output: Output,
) -> anyhow::Result<()> {
    let found = feed::list_consumers(admin, buin, app_id).await.map_err(explain)?;
    if output.json {
        return Ok(output::json(&found.iter().map(printed).collect::<Vec<_>>())?);
    }
    let rows: Vec<[String; 9]> = found
        .iter()
        .map(|consumer| {
            let state = &consumer.state;
            let lag = if state.is_expired { "expired".to_owned() } else { state.lag().to_string() };
            [
                consumer.buin.to_string(),
                consumer.app_id.to_string(),
                state.consumer.name.to_string(),
                state.position().get().to_string(),
                lag,
                state.leased.to_string(),
                state.ready.to_string(),
                state.parked.to_string(),
                output::time(state.consumer.used_at),
            ]
        })
        .collect();
    let head = [
        "BUIN",
        "APP",
        "CONSUMER",
        "POSITION",
        "LAG",
        "LEASED",
        "READY",
        "PARKED",
        "LAST USE (UTC)",
    ];
    output::text(&output::table(head, &rows))?;
    Ok(())
}

pub(super) async fn show(
    admin: &AdminContext,
    ConsumerSelector { name, app }: &ConsumerSelector,
    output: Output,
) -> anyhow::Result<()> {
    let found = feed::consumer(admin, app.buin, &app.app_id, name).await.map_err(explain)?;
    if output.json {
        return Ok(output::json(&printed(&found))?);
    }
    let state = &found.state;
    let mut lines = vec![
        format!("consumer      {name}"),
        format!("app           {}/{}", found.buin, found.app_id),
        format!("filter        {}", filter(&state.consumer.filter)),
        format!("lease         {}s", state.consumer.lease.seconds()),
        format!("position      {}", state.position().get()),
        format!("lag           {}", state.lag()),
        format!("leased        {}", state.leased),
        format!("ready         {}", state.ready),
        format!("parked        {}, with {} that wait behind them", state.parked, state.waiting),
        format!("last use      {} UTC", output::time(state.consumer.used_at)),
    ];
    if state.is_expired {
        lines.push("expired       the history of the database is another one: reset it".to_owned());
    }
    lines.extend(state.members.iter().map(|leases| {
        let until = output::time(leases.lease_until);
        format!("member {}: {} events, first lease until {until} UTC", leases.member, leases.events)
    }));
    lines.extend(found.parked.iter().map(|event| {
        let (seq, id, version) = (event.seq.get(), event.session_id, event.version);
        let at = output::time(event.parked_at);
        format!(
            "parked {seq}: session {id}, version {version}, {} attempts, {at} UTC",
            event.attempts
        )
    }));
    output::text(&lines.join("\n"))?;
    Ok(())
}

pub(super) async fn reset(
    admin: &AdminContext,
    ConsumerSelector { name, app }: &ConsumerSelector,
    start: FeedStart,
    output: Output,
) -> anyhow::Result<()> {
    let resetting = feed::reset_consumer(admin, app.buin, &app.app_id, name, start);
    let position = resetting.await.map_err(explain)?.get();
    if output.json {
        return Ok(output::json(&json!({ "position": position }))?);
    }
    output::text(&format!("{name} continues after change {position}"))?;
    Ok(())
}

pub(super) async fn release(
    admin: &AdminContext,
    ConsumerSelector { name, app }: &ConsumerSelector,
    seqs: &[u32],
    discard: bool,
    output: Output,
) -> anyhow::Result<()> {
    let seqs: Vec<FeedSeq> =
        seqs.iter().filter_map(|seq| FeedSeq::new(i64::from(*seq)).ok()).collect();
    let seqs = Some(seqs.as_slice()).filter(|seqs| !seqs.is_empty());
    let releasing = feed::release_events(admin, app.buin, &app.app_id, name, seqs, discard);
    let released = releasing.await.map_err(explain)?;
    if output.json {
        return Ok(output::json(&json!({ "released": released, "discarded": discard }))?);
    }
    let outcome = if discard { "that count as done now" } else { "that are handed out again" };
    output::text(&format!("parked events {outcome}: {released}"))?;
    Ok(())
}

/// A consumer in the output.
fn printed(found: &AppConsumer) -> Value {
    let state = &found.state;
    let members = state.members.iter().map(|leases| {
        json!({
            "member": leases.member, "leased": leases.events, "leaseUntil": leases.lease_until,
        })
    });
    let parked = found.parked.iter().map(|event| {
        json!({
            "seq": event.seq.get(), "sessionId": event.session_id.to_string(),
            "version": event.version.get(), "attempts": event.attempts, "member": event.member,
            "parkedAt": event.parked_at,
        })
    });
    json!({
        "buin": found.buin.get(),
        "appId": found.app_id.to_string(),
        "name": state.consumer.name.to_string(),
        "filter": filter(&state.consumer.filter),
        "leaseSeconds": state.consumer.lease.seconds(),
        "expired": state.is_expired,
        "position": state.position().get(),
        "headSeq": state.head.get(),
        "lag": state.lag(),
        "leased": state.leased,
        "ready": state.ready,
        "parked": state.parked,
        "waiting": state.waiting,
        "createdAt": state.consumer.created_at,
        "usedAt": state.consumer.used_at,
        "members": members.collect::<Vec<_>>(),
        "parkedEvents": parked.collect::<Vec<_>>(),
    })
}

/// The conditions of a filter that are set.
fn filter(filter: &FeedFilter) -> Value {
    let conditions = [
        ("member", filter.member.as_ref().map(|account| account.as_str().to_owned())),
        ("owner", filter.owner.as_ref().map(|account| account.as_str().to_owned())),
        ("sessionId", filter.session.map(|id| id.to_string())),
        ("kind", filter.kind.map(|kind| EventKind::name(kind).to_owned())),
        ("app", filter.app.as_ref().map(ToString::to_string)),
    ];
    let set = conditions
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
    Value::Object(set.collect())
}
