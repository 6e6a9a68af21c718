//! One try: what is said, and what becomes of the delivery then.

use std::sync::Arc;

use super::{Outcome, Schedule, Sender, Verdict, decide};
use crate::clock::Clock;
use crate::domain::{EventKind, State};
use crate::metrics::Metrics;
use crate::repository::deliveries::{Claimed, Finished, Next, Tried};
use crate::service::KnownApp;
use crate::wire::{Message, News};

/// One try, from sending to the decision what becomes of the delivery.
pub(super) async fn attempt(
    sender: Sender,
    clock: Clock,
    known: Arc<KnownApp>,
    schedule: Schedule,
    metrics: Arc<Metrics>,
    one: Claimed,
) -> Finished {
    let started_at = clock.now();
    let session_id = one.id.session_id.to_string();
    let message = message(&one, &session_id);
    let id = one.id.to_string();
    let outcome = sender.send(&known, &message, &id, one.attempt, started_at).await;
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
        (Some(_), Some(_)) => callbacks.refused.inc(),
        (Some(_), None) => callbacks.unanswered.inc(),
    }
    if next == Next::Failed {
        callbacks.given_up.inc();
    }
    callbacks.durations.took(outcome.duration);
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
