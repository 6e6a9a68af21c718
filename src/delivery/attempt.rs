//! One attempt: the message, the request, and the next state of the delivery.

use std::sync::Arc;

use super::{
    AttemptOutcome, CallbackRequest, CallbackSender, RetryDecision, RetrySchedule, decide,
};
use crate::clock::Clock;
use crate::domain::{AttemptRecord, EventKind, State};
use crate::metrics::Metrics;
use crate::repository::deliveries::{ClaimedDelivery, CompletedAttempt, NextState};
use crate::service::{AppContext, AppDirectory};
use crate::telemetry::{Span, Traces};
use crate::wire::{CallbackEvent, Message};

/// The parts that every attempt uses.
#[derive(Clone)]
pub(super) struct AttemptRunner {
    sender: CallbackSender,
    directory: Arc<AppDirectory>,
    clock: Clock,
    schedule: RetrySchedule,
    metrics: Arc<Metrics>,
    traces: Traces,
}

impl AttemptRunner {
    pub(super) fn new(
        sender: CallbackSender,
        directory: Arc<AppDirectory>,
        clock: Clock,
        schedule: RetrySchedule,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { sender, directory, clock, schedule, metrics, traces: Traces::default() }
    }

    /// The same runner, with spans in the traces of the changes.
    pub(super) fn with_traces(&self, traces: Traces) -> Self {
        Self { traces, ..self.clone() }
    }

    /// Sends one callback, and decides the next state of its delivery.
    pub(super) async fn run(
        self: Arc<Self>,
        context: Arc<AppContext>,
        delivery: ClaimedDelivery,
    ) -> CompletedAttempt {
        let started_at = self.clock.now();
        let session_id = delivery.id.session_id.to_string();
        let id = delivery.id.to_string();
        let message = message(&delivery, &id, &session_id);
        let span = self.traces.callback(delivery.trace.as_ref());
        let trace =
            span.as_ref().map(|span| span.trace().clone()).or_else(|| delivery.trace.clone());
        let trace = trace.as_ref();
        let callback = CallbackRequest {
            context: &context,
            message: &message,
            attempt: delivery.attempt,
            trace,
            now: started_at,
        };
        let outcome = self.sender.send(&callback).await;
        if let Some(span) = span {
            record_span(span, &delivery, &id, &outcome);
        }
        let next = self.next_state(&context, &delivery, &outcome);
        record_metrics(&self.metrics, &outcome, next);
        tracing::info!(
            delivery = id,
            attempt = delivery.attempt,
            status = outcome.status,
            error = outcome.error.as_deref(),
            duration_ms = outcome.duration.as_secs_f64() * 1_000.0,
            buin = delivery.buin.get(),
            app_id = delivery.id.app_id.as_str(),
            session_id,
            trace_id = trace.map(|trace| tracing::field::display(trace.id())),
            "callback"
        );
        let duration_ms = i32::try_from(outcome.duration.as_millis()).unwrap_or(i32::MAX);
        let AttemptOutcome { status, error, response_excerpt, .. } = outcome;
        let record = AttemptRecord {
            attempt: delivery.attempt,
            started_at,
            duration_ms,
            status,
            error,
            response_excerpt,
        };
        CompletedAttempt { id: delivery.id, lease: delivery.lease, next_state: next, record }
    }

    fn next_state(
        &self,
        context: &AppContext,
        delivery: &ClaimedDelivery,
        outcome: &AttemptOutcome,
    ) -> NextState {
        if outcome.error.is_none() {
            return NextState::Delivered;
        }
        let now = self.clock.now();
        // The operator corrected the receiver during the attempt, whose failure means nothing now.
        let current = self.directory.subscriber(delivery.buin, &delivery.id.app_id);
        if current.is_some_and(|current| !current.has_receiver_of(context)) {
            return NextState::RetryAt(now);
        }
        let attempt = u32::try_from(delivery.attempt_in_round).unwrap_or_default();
        let (retry_after, jitter) = (outcome.retry_after, rand::random());
        match decide(&self.schedule, attempt, delivery.first_tried_at, now, retry_after, jitter) {
            RetryDecision::RetryAt(at) => NextState::RetryAt(at),
            RetryDecision::GiveUp => NextState::Failed,
        }
    }
}

fn record_metrics(metrics: &Metrics, outcome: &AttemptOutcome, next: NextState) {
    let callbacks = &metrics.callbacks;
    match (&outcome.error, outcome.status) {
        (None, _) => callbacks.acknowledged.inc(),
        (Some(_), Some(_)) => callbacks.rejected.inc(),
        (Some(_), None) => callbacks.no_response.inc(),
    }
    if next == NextState::Failed {
        callbacks.failed.inc();
    }
    callbacks.durations.observe_duration(outcome.duration);
}

/// Records the outcome of the attempt in its span, and ends the span.
fn record_span(mut span: Span, delivery: &ClaimedDelivery, id: &str, outcome: &AttemptOutcome) {
    span.set_attribute("http.request.method", "POST");
    span.set_attribute("muster.app_id", delivery.id.app_id.as_str().to_owned());
    span.set_attribute("muster.delivery", id.to_owned());
    span.set_attribute("muster.attempt", i64::from(delivery.attempt));
    if let Some(status) = outcome.status {
        span.set_attribute("http.response.status_code", i64::from(status));
    }
    if outcome.error.is_some() {
        span.mark_failed();
    }
}

fn message<'a>(delivery: &'a ClaimedDelivery, id: &'a str, session_id: &'a str) -> Message<'a> {
    let event = &delivery.event;
    Message {
        from_user: &event.operator,
        create_time: event.at.timestamp(),
        package_id: id,
        session_id,
        version: delivery.id.version.get(),
        event: match event.kind {
            EventKind::Created => {
                CallbackEvent::Created { title: &event.title, member: &event.member }
            }
            EventKind::Updated
            | EventKind::Reverted
            | EventKind::Dissolved
            | EventKind::Restored => CallbackEvent::Updated {
                owner: &event.owner,
                title: &event.title,
                add_member: &event.add_member,
                del_member: &event.del_member,
                state: event.kind.state().map(State::name),
            },
        },
    }
}
