//! What is being sent right now, and what is known of the receivers.

use std::collections::HashMap;

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::ack_rate::AckRate;
use super::circuit_breaker::CircuitBreaker;
use crate::clock::Clock;
use crate::domain::{AppId, Buin};
use crate::repository::deliveries::CompletedAttempt;

/// A try that takes longer costs a socket and nothing else: it counts against its own app only, so
/// that receivers that hang, however many, do not hold up one that does not.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// But there may not be more sockets than so many times what may be under way.
const MAX_SOCKETS_FACTOR: usize = 16;

/// Names an app.
pub(super) type AppKey = (Buin, AppId);

/// Tries that run, each to an app.
#[derive(Default)]
pub(super) struct InFlight {
    tasks: JoinSet<CompletedAttempt>,
    apps: HashMap<Id, (AppKey, Instant)>,
    per_app: HashMap<AppKey, usize>,
    circuit_breakers: HashMap<AppKey, CircuitBreaker>,
    ack_rates: HashMap<AppKey, AckRate>,
}

impl InFlight {
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// How many more may start to anybody, where `most` may be under way.
    pub(super) fn free_slots(&self, max: usize) -> usize {
        let quick = self.apps.values().filter(|(_, began)| began.elapsed() < SLOW_AFTER).count();
        let sockets = max.saturating_mul(MAX_SOCKETS_FACTOR).saturating_sub(self.len());
        max.saturating_sub(quick).min(sockets)
    }

    /// Whether so many sessions of `app` failed that only few are tried.
    pub(super) fn is_circuit_open(&self, app: &AppKey) -> bool {
        self.circuit_breakers.get(app).is_some_and(CircuitBreaker::is_open)
    }

    /// How many apps are slowed down.
    pub(super) fn open_circuits(&self) -> usize {
        self.circuit_breakers.values().filter(|circuit| circuit.is_open()).count()
    }

    /// How many tries to `app` run.
    pub(super) fn in_flight_for(&self, app: &AppKey) -> usize {
        self.per_app.get(app).copied().unwrap_or_default()
    }

    /// About how many `app` acknowledges in a second; none while few are tried.
    pub(super) fn ack_rate(&mut self, app: &AppKey) -> usize {
        match self.ack_rates.get_mut(app) {
            Some(rate) if !self.circuit_breakers.get(app).is_some_and(CircuitBreaker::is_open) => {
                rate.per_second(Instant::now())
            }
            _ => 0,
        }
    }

    /// How many more may start, where `most` may run to a sound receiver, and `free` to anybody. An
    /// app that has a place leaves some: another may have something to tell soon.
    pub(super) fn slots_for(
        &self,
        app: &AppKey,
        max: usize,
        free: usize,
        now: DateTime<Utc>,
    ) -> usize {
        let permits =
            self.circuit_breakers.get(app).map_or(max, |circuit| circuit.permits(max, now));
        let in_flight = self.in_flight_for(app);
        let fair = if in_flight == 0 { free.div_ceil(2) } else { free / 2 };
        permits.saturating_sub(in_flight).min(fair)
    }

    pub(super) fn start(
        &mut self,
        app: AppKey,
        attempt: impl Future<Output = CompletedAttempt> + Send + 'static,
    ) {
        let task = self.tasks.spawn(attempt);
        *self.per_app.entry(app.clone()).or_default() += 1;
        self.apps.insert(task.id(), (app, Instant::now()));
    }

    /// Waits until one has ended, and gives all that have. Never ends while none runs. May be
    /// dropped while it waits: nothing is lost.
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
                    // Its lease will end, and it is sent again.
                    tracing::error!(%error, "sending a callback broke off");
                    (error.id(), None)
                }
            };
            if let Some((app, _)) = self.apps.remove(&id) {
                self.on_finished(&app, finished.as_ref(), clock.now());
            }
            all.extend(finished);
            next = self.tasks.try_join_next_with_id();
        }
        all
    }

    fn on_finished(
        &mut self,
        app: &AppKey,
        finished: Option<&CompletedAttempt>,
        now: DateTime<Utc>,
    ) {
        if let Some(count) = self.per_app.get_mut(app) {
            *count -= 1;
            if *count == 0 {
                self.per_app.remove(app);
            }
        }
        let Some(CompletedAttempt { id, record: tried, .. }) = finished else { return };
        let (buin, app_id) = (app.0.get(), app.1.as_str());
        let finished_at = Instant::now();
        let ack_rate =
            self.ack_rates.entry(app.clone()).or_insert_with(|| AckRate::new(finished_at));
        if let Some(error) = tried.error.as_deref() {
            ack_rate.record_failure();
            if self
                .circuit_breakers
                .entry(app.clone())
                .or_default()
                .record_failure(id.session_id, now)
            {
                tracing::warn!(buin, app_id, error, "callbacks fail steadily: sending fewer");
            }
            return;
        }
        ack_rate.record_ack(finished_at);
        if self.circuit_breakers.remove(app).is_some_and(|circuit| circuit.is_open()) {
            tracing::info!(buin, app_id, "callbacks arrive again");
        }
    }
}
