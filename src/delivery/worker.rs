//! The loop: take what is due, send it, write down what became of it.
//!
//! One task owns the loop, so claims and records are shared by everything that is under way: both
//! statements take many deliveries. Only sending happens beside it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::prune::keep_tidy;
use super::under_way::{App, UnderWay};
use super::{Outcome, Schedule, Sender, Verdict, decide};
use crate::clock::Clock;
use crate::domain::{EventKind, State};
use crate::metrics::Metrics;
use crate::repository;
use crate::repository::PgPool;
use crate::repository::deliveries::{self, Claimed, Finished, Next, Room, Tried};
use crate::service::{Changed, Directory, KnownApp};
use crate::wire::{Message, News};

/// How callbacks are sent.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many may be under way.
    pub concurrency: usize,
    /// How many of them to one app.
    pub concurrency_per_app: usize,
    /// How long a delivery is ours; longer than sending can take.
    pub lease: Duration,
    /// How often it is looked for what became due, or was written by other servers.
    pub poll: Duration,
    /// When to try again.
    pub schedule: Schedule,
    /// How long delivered ones are kept.
    pub keep_delivered: Duration,
    /// How long failed ones are kept.
    pub keep_failed: Duration,
}

/// Sends what is due. Any number may run on one database.
pub struct Worker {
    pool: PgPool,
    directory: Arc<Directory>,
    sender: Sender,
    clock: Clock,
    options: Options,
    under_way: UnderWay,
    /// Tries that ended, not yet written down.
    unwritten: Vec<Finished>,
    metrics: Arc<Metrics>,
}

impl Worker {
    /// A worker that sends to the apps of `directory`.
    #[must_use]
    pub fn new(
        pool: PgPool,
        directory: Arc<Directory>,
        sender: Sender,
        clock: Clock,
        options: Options,
    ) -> Self {
        let (under_way, unwritten) = (UnderWay::default(), Vec::new());
        let metrics = Arc::default();
        Self { pool, directory, sender, clock, options, under_way, unwritten, metrics }
    }

    /// The same, counting what it does in `metrics`.
    #[must_use]
    pub fn counting(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// Works until `stop` is done; then finishes what is under way. `changed` is notified when there
    /// may be something new.
    pub async fn run(mut self, changed: Arc<Changed>, stop: impl Future<Output = ()>) {
        let janitor =
            tokio::spawn(keep_tidy(self.pool.clone(), self.clock.clone(), self.options.clone()));
        tokio::pin!(stop);
        loop {
            if let Err(error) = self.turn().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot work on callbacks; trying again"
                );
            }
            changed.want(!self.directory.subscribers().is_empty());
            self.note();
            tokio::select! {
                () = &mut stop => break,
                ended = self.under_way.ended(&self.clock) => self.unwritten.extend(ended),
                () = changed.heard() => {}
                () = tokio::time::sleep(self.options.poll) => {}
            }
        }
        janitor.abort();
        // Written down one by one: whoever waits for this may lose patience with the last ones.
        while self.under_way.len() > 0 || !self.unwritten.is_empty() {
            if let Err(error) = self.write_down().await {
                // Their leases end, and they are sent again: at least once.
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "callbacks that were sent could not be written down"
                );
                self.unwritten.clear();
            }
            if self.under_way.len() > 0 {
                self.unwritten.extend(self.under_way.ended(&self.clock).await);
            }
        }
    }

    /// Tells how many tries run, and how many apps are slowed down.
    fn note(&self) {
        let callbacks = &self.metrics.callbacks;
        callbacks.under_way.store(self.under_way.len() as u64, Ordering::Relaxed);
        callbacks.slowed.store(self.under_way.slowed() as u64, Ordering::Relaxed);
    }

    /// Sends everything that is due now, and what becomes due by that, and waits for it. Gives how
    /// many tries that were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drain(&mut self) -> Result<usize, repository::Error> {
        let mut tries = 0;
        loop {
            tries += self.turn().await?;
            if self.under_way.len() == 0 {
                return Ok(tries);
            }
            self.unwritten.extend(self.under_way.ended(&self.clock).await);
        }
    }

    /// Writes down what has ended, takes what is due, starts sending it. Gives how many it took.
    async fn turn(&mut self) -> Result<usize, repository::Error> {
        self.write_down().await?;
        let mut taken = 0;
        loop {
            let (count, more) = self.take().await?;
            taken += count;
            if !more {
                return Ok(taken);
            }
        }
    }

    async fn write_down(&mut self) -> Result<(), repository::Error> {
        if !self.unwritten.is_empty() {
            deliveries::record(&self.pool, &self.unwritten, self.clock.now()).await?;
            self.unwritten.clear();
        }
        Ok(())
    }

    /// Takes what is due, as far as there is room. Gives how many, and whether there may be more
    /// that there is room for.
    async fn take(&mut self) -> Result<(usize, bool), repository::Error> {
        let most = self.under_way.free(self.options.concurrency);
        let now = self.clock.now();
        let mut apps: HashMap<App, Arc<KnownApp>> = HashMap::new();
        let mut rooms = Vec::new();
        for known in self.directory.subscribers() {
            let app = (known.app.buin, known.app.app_id.clone());
            let allowed = self.options.concurrency_per_app;
            let places = self.under_way.room(&app, allowed, most, now);
            if places > 0 {
                let taken = self.under_way.taken(&app);
                let probes = self.under_way.is_slowed(&app);
                rooms.push(Room { buin: app.0, app_id: app.1.clone(), taken, places, probes });
                apps.insert(app, known);
            }
        }
        if rooms.is_empty() {
            return Ok((0, false));
        }
        let until = now + self.options.lease;
        let claims = deliveries::claim(&self.pool, &rooms, most, now, until).await?;
        let count = claims.taken.len();
        for one in claims.taken {
            let app = (one.buin, one.id.app_id.clone());
            if let Some(known) = apps.get(&app) {
                let (sender, clock) = (self.sender.clone(), self.clock.clone());
                let (known, schedule) = (known.clone(), self.options.schedule.clone());
                let attempt = attempt(sender, clock, known, schedule, self.metrics.clone(), one);
                self.under_way.start(app, attempt);
            }
        }
        Ok((count, count < most && claims.more))
    }
}

/// One try, from sending to the decision what becomes of the delivery.
async fn attempt(
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
