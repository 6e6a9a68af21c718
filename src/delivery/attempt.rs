//! One try: what is said, and what becomes of the delivery then.

use std::sync::Arc;

use super::{Outcome, Schedule, Sender, Verdict, decide};
use crate::clock::Clock;
use crate::domain::{EventKind, State};
use crate::metrics::Metrics;
use crate::repository::deliveries::{Claimed, Finished, Next, Tried};
use crate::service::AppContext;
use crate::telemetry::{Span, Traces};
use crate::wire::{Message, News};

/// One try, from sending to the decision what becomes of the delivery.
pub(super) async fn attempt(
    sender: Sender,
    clock: Clock,
    known: Arc<AppContext>,
    schedule: Schedule,
    metrics: Arc<Metrics>,
    traces: Traces,
    one: Claimed,
) -> Finished {
    let started_at = clock.now();
    let session_id = one.id.session_id.to_string();
    let message = message(&one, &session_id);
    let id = one.id.to_string();
    let span = traces.callback(one.trace.as_ref());
    let trace = span.as_ref().map(|span| span.trace().clone()).or_else(|| one.trace.clone());
    let trace = trace.as_ref();
    let outcome = sender.send(&known, &message, &id, one.attempt, trace, started_at).await;
    if let Some(span) = span {
        tell(span, &one, &id, &outcome);
    }
    let next = next(&schedule, &one, &outcome, &clock);
    count(&metrics, &outcome, next);
    tracing::info!(
        delivery = id,
        attempt = one.attempt,
        status = outcome.status,
        error = outcome.error.as_deref(),
        duration_ms = outcome.duration.as_secs_f64() * 1_000.0,
        buin = one.buin.get(),
        app_id = one.id.app_id.as_str(),
        session_id,
        trace_id = trace.map(|trace| tracing::field::display(trace.id())),
        "callback"
    );
    let duration_ms = i32::try_from(outcome.duration.as_millis()).unwrap_or(i32::MAX);
    let Outcome { status, error, answer, .. } = outcome;
    let tried = Tried { attempt: one.attempt, started_at, duration_ms, status, error, answer };
    Finished { id: one.id, lease: one.lease, next, tried }
}

fn count(metrics: &Metrics, outcome: &Outcome, next: Next) {
    let callbacks = &metrics.callbacks;
    match (&outcome.error, outcome.status) {
        (None, _) => callbacks.acknowledged.inc(),
        (Some(_), Some(_)) => callbacks.rejected.inc(),
        (Some(_), None) => callbacks.no_response.inc(),
    }
    if next == Next::Failed {
        callbacks.given_up.inc();
    }
    callbacks.durations.took(outcome.duration);
}

/// Tells a span of the try what became of it, and ends it.
fn tell(mut span: Span, one: &Claimed, id: &str, outcome: &Outcome) {
    span.note("http.request.method", "POST");
    span.note("muster.app_id", one.id.app_id.as_str().to_owned());
    span.note("muster.delivery", id.to_owned());
    span.note("muster.attempt", i64::from(one.attempt));
    if let Some(status) = outcome.status {
        span.note("http.response.status_code", i64::from(status));
    }
    if outcome.error.is_some() {
        span.failed();
    }
}

fn message<'a>(one: &'a Claimed, session_id: &'a str) -> Message<'a> {
    let event = &one.event;
    Message {
        from_user: &event.operator,
        create_time: event.at.timestamp(),
        session_id,
        version: one.id.version.get(),
        news: match event.kind {
            EventKind::Created => News::Created { title: &event.title, member: &event.member },
            EventKind::Updated
            | EventKind::Reverted
            | EventKind::Dissolved
            | EventKind::Restored => News::Updated {
                owner: &event.owner,
                title: &event.title,
                add_member: &event.add_member,
                del_member: &event.del_member,
                state: event.kind.state().map(State::name),
            },
        },
    }
}

fn next(schedule: &Schedule, one: &Claimed, outcome: &Outcome, clock: &Clock) -> Next {
    if outcome.error.is_none() {
        return Next::Delivered;
    }
    let tries = u32::try_from(one.tries).unwrap_or_default();
    let (asked, chance) = (outcome.retry_after, rand::random());
    match decide(schedule, tries, one.first_tried_at, clock.now(), asked, chance) {
        Verdict::RetryAt(at) => Next::RetryAt(at),
        Verdict::GiveUp => Next::Failed,
    }
}
