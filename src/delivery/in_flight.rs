//! What is being sent right now, and what is known of the receivers.

use std::collections::HashMap;

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::ack_rate::Pace;
use super::circuit_breaker::Circuit;
use crate::clock::Clock;
use crate::domain::{AppId, Buin};
use crate::repository::deliveries::Finished;

/// A try that takes longer costs a socket and nothing else: it counts against its own app only, so
/// that receivers that hang, however many, do not hold up one that does not.
const QUICK: Duration = Duration::from_secs(1);
/// But there may not be more sockets than so many times what may be under way.
const SOCKETS: usize = 16;

/// Names an app.
pub(super) type App = (Buin, AppId);

/// Tries that run, each to an app.
#[derive(Default)]
pub(super) struct UnderWay {
    tasks: JoinSet<Finished>,
    apps: HashMap<Id, (App, Instant)>,
    places: HashMap<App, usize>,
    circuits: HashMap<App, Circuit>,
    paces: HashMap<App, Pace>,
}

impl UnderWay {
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// How many more may start to anybody, where `most` may be under way.
    pub(super) fn free(&self, most: usize) -> usize {
        let quick = self.apps.values().filter(|(_, began)| began.elapsed() < QUICK).count();
        let sockets = most.saturating_mul(SOCKETS).saturating_sub(self.len());
        most.saturating_sub(quick).min(sockets)
    }

    /// Whether so many sessions of `app` failed that only few are tried.
    pub(super) fn is_slowed(&self, app: &App) -> bool {
        self.circuits.get(app).is_some_and(Circuit::is_slowed)
    }

    /// How many apps are slowed down.
    pub(super) fn slowed(&self) -> usize {
        self.circuits.values().filter(|circuit| circuit.is_slowed()).count()
    }

    /// How many tries to `app` run.
    pub(super) fn taken(&self, app: &App) -> usize {
        self.places.get(app).copied().unwrap_or_default()
    }

    /// About how many `app` acknowledges in a second; none while few are tried.
    pub(super) fn pace(&mut self, app: &App) -> usize {
        match self.paces.get_mut(app) {
            Some(pace) if !self.circuits.get(app).is_some_and(Circuit::is_slowed) => {
                pace.in_a_second(Instant::now())
            }
            _ => 0,
        }
    }

    /// How many more may start, where `most` may run to a sound receiver, and `free` to anybody. An
    /// app that has a place leaves some: another may have something to tell soon.
    pub(super) fn room(&self, app: &App, most: usize, free: usize, now: DateTime<Utc>) -> usize {
        let allowed = self.circuits.get(app).map_or(most, |circuit| circuit.places(most, now));
        let taken = self.taken(app);
        let fair = if taken == 0 { free.div_ceil(2) } else { free / 2 };
        allowed.saturating_sub(taken).min(fair)
    }

    pub(super) fn start(
        &mut self,
        app: App,
        attempt: impl Future<Output = Finished> + Send + 'static,
    ) {
        let task = self.tasks.spawn(attempt);
        *self.places.entry(app.clone()).or_default() += 1;
        self.apps.insert(task.id(), (app, Instant::now()));
    }

    /// Waits until one has ended, and gives all that have. Never ends while none runs. May be
    /// dropped while it waits: nothing is lost.
    pub(super) async fn ended(&mut self, clock: &Clock) -> Vec<Finished> {
        let Some(first) = self.tasks.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let mut all = Vec::new();
        let mut next = Some(first);
        while let Some(ended) = next {
            let (id, finished) = match ended {
                Ok((id, finished)) => (id, Some(finished)),
                Err(error) => {
                    // Its lease will end, and it is sent again.
                    tracing::error!(%error, "sending a callback broke off");
                    (error.id(), None)
                }
            };
            if let Some((app, _)) = self.apps.remove(&id) {
                self.leave(&app, finished.as_ref(), clock.now());
            }
            all.extend(finished);
            next = self.tasks.try_join_next_with_id();
        }
        all
    }

    fn leave(&mut self, app: &App, finished: Option<&Finished>, now: DateTime<Utc>) {
        if let Some(places) = self.places.get_mut(app) {
            *places -= 1;
            if *places == 0 {
                self.places.remove(app);
            }
        }
        let Some(Finished { id, tried, .. }) = finished else { return };
        let (buin, app_id) = (app.0.get(), app.1.as_str());
        let ended = Instant::now();
        let pace = self.paces.entry(app.clone()).or_insert_with(|| Pace::new(ended));
        if let Some(error) = tried.error.as_deref() {
            pace.failed();
            if self.circuits.entry(app.clone()).or_default().failed(id.session_id, now) {
                tracing::warn!(buin, app_id, error, "callbacks fail steadily: sending fewer");
            }
            return;
        }
        pace.acknowledged(ended);
        if self.circuits.remove(app).is_some_and(|circuit| circuit.is_slowed()) {
            tracing::info!(buin, app_id, "callbacks arrive again");
        }
    }
}
