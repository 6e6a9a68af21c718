//! The running attempts, and the state of the receivers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::ack_rate::AckRate;
use super::circuit_breaker::CircuitBreaker;
use super::failure_log::{FailureCounts, FailureLog};
use crate::clock::Clock;
use crate::domain::{AppId, Buin};
use crate::repository::deliveries::{CompletedAttempt, NextState};
use crate::service::{AppContext, AppDirectory};

/// An attempt that takes longer than this costs a socket only. Such an attempt counts against its
/// own app only, so that slow receivers, however many, do not delay a fast one.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// The maximum number of sockets, as a multiple of the maximum number of attempts.
const MAX_SOCKETS_FACTOR: usize = 16;

/// The key of an app.
pub(super) type AppKey = (Buin, AppId);

/// The running attempts, each to an app.
#[derive(Default)]
pub(super) struct InFlight {
    tasks: JoinSet<CompletedAttempt>,
    apps: HashMap<Id, (Arc<AppContext>, Instant)>,
    per_app: HashMap<AppKey, usize>,
    /// Each with the app as its receiver was when an attempt failed.
    circuit_breakers: HashMap<AppKey, (Arc<AppContext>, CircuitBreaker)>,
    ack_rates: HashMap<AppKey, AckRate>,
    failures: FailureLog,
}

impl InFlight {
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// The number of further attempts that may start in total, if `max` may run.
    pub(super) fn free_slots(&self, max: usize) -> usize {
        let quick =
            self.apps.values().filter(|(_, started_at)| started_at.elapsed() < SLOW_AFTER).count();
        let sockets = max.saturating_mul(MAX_SOCKETS_FACTOR).saturating_sub(self.len());
        max.saturating_sub(quick).min(sockets)
    }

    /// Whether the circuit breaker of `app` is open, so that only a few attempts are made.
    pub(super) fn is_circuit_breaker_open(&self, app: &AppKey) -> bool {
        self.circuit_breakers.get(app).is_some_and(|(_, circuit_breaker)| circuit_breaker.is_open())
    }

    /// Removes the circuit breakers of apps without callbacks, and of apps whose receiver was changed since
    /// it failed.
    pub(super) fn retain_circuit_breakers(&mut self, directory: &AppDirectory) {
        self.circuit_breakers.retain(|(buin, app_id), (failed, _)| {
            let current = directory.subscriber(*buin, app_id);
            current.is_some_and(|current| current.has_receiver_of(failed))
        });
    }

    /// The number of apps whose circuit breaker is open.
    pub(super) fn open_circuit_breakers(&self) -> usize {
        self.circuit_breakers
            .values()
            .filter(|(_, circuit_breaker)| circuit_breaker.is_open())
            .count()
    }

    /// The number of running attempts to `app`.
    pub(super) fn in_flight_for(&self, app: &AppKey) -> usize {
        self.per_app.get(app).copied().unwrap_or_default()
    }

    /// The approximate number of acknowledgements per second of `app`; 0 while its circuit breaker is open.
    pub(super) fn ack_rate(&mut self, app: &AppKey) -> usize {
        if self.is_circuit_breaker_open(app) {
            return 0;
        }
        self.ack_rates.get_mut(app).map_or(0, |rate| rate.per_second(Instant::now()))
    }

    /// The number of further attempts to `app` that may start, if `max` may run to a healthy
    /// receiver and `free` may start in total. An app gets half of `free`, because another app may
    /// need a slot soon.
    pub(super) fn slots_for(
        &self,
        app: &AppKey,
        max: usize,
        free: usize,
        now: DateTime<Utc>,
    ) -> usize {
        let permits = self
            .circuit_breakers
            .get(app)
            .map_or(max, |(_, circuit_breaker)| circuit_breaker.permits(max, now));
        let in_flight = self.in_flight_for(app);
        let fair = if in_flight == 0 { free.div_ceil(2) } else { free / 2 };
        permits.saturating_sub(in_flight).min(fair)
    }

    pub(super) fn start(
        &mut self,
        context: Arc<AppContext>,
        attempt: impl Future<Output = CompletedAttempt> + Send + 'static,
    ) {
        let task = self.tasks.spawn(attempt);
        *self.per_app.entry(key(&context)).or_default() += 1;
        self.apps.insert(task.id(), (context, Instant::now()));
    }

    /// Waits until an attempt ends, and returns all that have ended. Waits forever if no attempt
    /// runs. Dropping the future loses nothing.
    pub(super) async fn join_finished(&mut self, clock: &Clock) -> Vec<CompletedAttempt> {
        let Some(first) = self.tasks.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let mut all = Vec::new();
        let mut next = Some(first);
        while let Some(joined) = next {
            let (id, finished) = match joined {
                Ok((id, finished)) => (id, Some(finished)),
                Err(error) => {
                    // The lease of its delivery ends, and the callback is sent again.
                    tracing::error!(%error, "the task that sends a callback failed");
                    (error.id(), None)
                }
            };
            if let Some((context, _)) = self.apps.remove(&id) {
                self.on_finished(&context, finished.as_ref(), clock.now());
            }
            all.extend(finished);
            next = self.tasks.try_join_next_with_id();
        }
        self.log_failures(clock.now());
        all
    }

    /// Forgets the failures of apps that get no callbacks now.
    pub(super) fn retain_failures(&mut self, directory: &AppDirectory) {
        self.failures.retain(|(buin, app_id)| directory.subscriber(*buin, app_id).is_some());
    }

    /// Logs the failures that are due for a warning.
    pub(super) fn log_failures(&mut self, now: DateTime<Utc>) {
        self.failures.take_due(now, |(buin, app_id), counts, error| {
            let (buin, app_id) = (buin.get(), app_id.as_str());
            let FailureCounts { failed: failed_attempts, given_up } = counts;
            tracing::warn!(buin, app_id, failed_attempts, given_up, error, "callbacks fail");
        });
    }

    fn on_finished(
        &mut self,
        context: &Arc<AppContext>,
        finished: Option<&CompletedAttempt>,
        now: DateTime<Utc>,
    ) {
        let app = &key(context);
        if let Some(count) = self.per_app.get_mut(app) {
            *count -= 1;
            if *count == 0 {
                self.per_app.remove(app);
            }
        }
        let Some(CompletedAttempt { id, record, next_state, .. }) = finished else { return };
        let (buin, app_id) = (app.0.get(), app.1.as_str());
        let finished_at = Instant::now();
        let ack_rate =
            self.ack_rates.entry(app.clone()).or_insert_with(|| AckRate::new(finished_at));
        if let Some(error) = record.error.as_deref() {
            ack_rate.record_failure();
            self.failures.record_failure(app, error, *next_state == NextState::Failed);
            let (failing, circuit_breaker) = self
                .circuit_breakers
                .entry(app.clone())
                .or_insert_with(|| (context.clone(), CircuitBreaker::default()));
            if failing.has_receiver_of(context)
                && circuit_breaker.record_failure(id.session_id, now)
            {
                tracing::warn!(buin, app_id, error, "callbacks fail steadily: sending fewer");
            }
            return;
        }
        ack_rate.record_ack(finished_at);
        let closed = self
            .circuit_breakers
            .remove(app)
            .is_some_and(|(_, circuit_breaker)| circuit_breaker.is_open());
        if self.failures.record_ack(app) || closed {
            tracing::info!(buin, app_id, "callbacks arrive again");
        }
    }
}

fn key(context: &AppContext) -> AppKey {
    (context.app.buin, context.app.app_id.clone())
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn attempts_and_sockets_are_bounded() {
        const MAX: usize = 2;
        let context = Arc::new(AppContext::for_tests());
        let mut in_flight = InFlight::default();
        let start_all = |in_flight: &mut InFlight| {
            while in_flight.free_slots(MAX) > 0 {
                in_flight.start(context.clone(), pending());
            }
        };
        start_all(&mut in_flight);
        assert_eq!(in_flight.len(), MAX);
        // Attempts that hang give their slots to others, but keep their sockets.
        for _ in 0..2 * MAX_SOCKETS_FACTOR {
            tokio::time::advance(SLOW_AFTER).await;
            start_all(&mut in_flight);
        }
        assert_eq!(in_flight.len(), MAX * MAX_SOCKETS_FACTOR);
        // They count against their app.
        let (app, now) = (key(&context), DateTime::UNIX_EPOCH);
        let all = in_flight.len();
        assert_eq!(in_flight.slots_for(&app, all, 100, now), 0);
        assert_eq!(in_flight.slots_for(&app, all + 3, 100, now), 3);
    }
}
