//! The loop: take what is due, send it, write down what became of it.
//!
//! One task owns the loop, so statements are shared by everything that is under way: each takes, or
//! writes down, many deliveries. Sending never waits for a statement, nor one statement for the
//! other; what a quick receiver will want next is taken ahead.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::MissedTickBehavior;

use super::Sender;
use super::attempt::attempt;
use super::claim::take;
use super::in_flight::UnderWay;
use super::options::Options;
use super::prefetch_buffer::Ready;
use super::prune::keep_tidy;
use super::result_buffer::Unwritten;
use super::single_flight::Desk;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::repository;
use crate::repository::PgPool;
use crate::repository::dedicated_connection::Line;
use crate::repository::deliveries::{Claims, Lease, Room};
use crate::repository::pool::Limits;
use crate::service::{AppDirectory, ChangeNotifier};
use crate::telemetry::Traces;

/// So many may be taken before there is a place for them, in all.
const AHEAD: usize = 256;

/// Sends what is due. Any number may run on one database.
pub struct Worker {
    pool: PgPool,
    directory: Arc<AppDirectory>,
    sender: Sender,
    clock: Clock,
    options: Options,
    under_way: UnderWay,
    ready: Ready,
    /// Tries that ended, and what was taken and not tried: not yet written down.
    unwritten: Unwritten,
    taking: Desk<(Lease, Result<Claims, repository::Error>)>,
    writing: Desk<(Unwritten, Result<(), repository::Error>)>,
    metrics: Arc<Metrics>,
    traces: Traces,
    /// How many tries have begun.
    begun: usize,
    /// Whether something may be due that was not looked for yet.
    look: bool,
    /// Whether the database failed, so that nothing is asked of it until the next look.
    rests: bool,
}

impl Worker {
    /// A worker that sends to the apps of `directory`, and counts what it does in `metrics`.
    #[must_use]
    pub fn new(
        pool: PgPool,
        limits: Limits,
        directory: Arc<AppDirectory>,
        sender: Sender,
        clock: Clock,
        options: Options,
        metrics: Arc<Metrics>,
    ) -> Self {
        // Whatever they forget is sent again: at least once.
        let line = || Line::for_callbacks(&pool, limits, metrics.clone());
        let (taking, writing) = (Desk::new(line()), Desk::new(line()));
        Self {
            pool,
            directory,
            sender,
            clock,
            options,
            under_way: UnderWay::default(),
            ready: Ready::default(),
            unwritten: Unwritten::default(),
            taking,
            writing,
            metrics,
            traces: Traces::default(),
            begun: 0,
            look: true,
            rests: false,
        }
    }

    /// The same, in the traces of the changes that it tells of.
    #[must_use]
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Works until `stop` is done; then finishes what is under way. `changed` is notified when there
    /// may be something new.
    pub async fn run(mut self, changed: Arc<ChangeNotifier>, stop: impl Future<Output = ()>) {
        let janitor =
            tokio::spawn(keep_tidy(self.pool.clone(), self.clock.clone(), self.options.clone()));
        tokio::pin!(stop);
        let mut look = tokio::time::interval(self.options.poll);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => break,
                worked = self.work() => if let Err(error) = worked {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot work on callbacks; trying again"
                    );
                    self.rests = true;
                },
                () = changed.notified() => self.look = true,
                _ = look.tick() => {
                    (self.look, self.rests) = (true, false);
                    let subscribers = self.directory.subscribers();
                    changed.set_interest(subscribers.iter().map(|known| known.app.buin).collect());
                    self.note();
                }
            }
        }
        janitor.abort();
        self.finish().await;
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
        self.look = true;
        let before = self.begun;
        loop {
            self.begin();
            if self.is_idle() {
                return Ok(self.begun - before);
            }
            self.step().await?;
        }
    }

    /// Begins what can begin, and waits for the first thing that ends. May be dropped while it
    /// waits: nothing is lost.
    async fn work(&mut self) -> Result<(), repository::Error> {
        self.begin();
        if self.is_idle() { std::future::pending().await } else { self.step().await }
    }

    /// Gives back what was not sent, waits for what is under way, and writes that down one by one:
    /// whoever waits for this may lose patience with the last ones.
    async fn finish(mut self) {
        loop {
            self.unwritten.unsent.extend(self.ready.give_back_all());
            self.write_down();
            if self.is_idle() {
                return;
            }
            if let Err(error) = self.step().await {
                // Their leases end, and they are sent again: at least once.
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "callbacks that were sent could not be written down"
                );
                self.unwritten = Unwritten::default();
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.under_way.len() == 0 && self.taking.is_free() && self.writing.is_free()
    }

    /// Waits for the first thing that ends.
    async fn step(&mut self) -> Result<(), repository::Error> {
        let more = self.more();
        tokio::select! {
            ended = self.under_way.ended(&self.clock) => self.unwritten.ended(ended),
            () = self.unwritten.company(more), if self.writing.is_free() && !self.rests => {}
            (written, result) = self.writing.end() => {
                if let Err(error) = result {
                    self.unwritten.again(written);
                    return Err(error);
                }
                // There is room, and what they held up is due.
                self.look = true;
            }
            (lease, claims) = self.taking.end() => {
                if claims.as_ref().is_err_and(repository::Error::is_lost) {
                    self.unwritten.forgotten.push(lease);
                }
                let claims = claims?;
                self.look |= claims.more;
                self.ready.extend(claims.taken);
            }
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.send();
        if !self.rests {
            self.write_down();
            self.take();
        }
    }

    /// Sends what is ready, as far as there are places, and gives back what waits too long for one.
    fn send(&mut self) {
        let mut apps = Vec::new();
        for app in self.ready.apps() {
            let known = self.directory.subscriber(app.0, &app.1);
            let unsent = self.ready.give_back(&app, known.is_none());
            self.unwritten.unsent.extend(unsent);
            apps.extend(known.map(|known| (app, known)));
        }
        // Each app's first before any app's second.
        apps.sort_by_cached_key(|(app, _)| self.under_way.taken(app));
        let now = self.clock.now();
        let mut free = self.under_way.free(self.options.max_concurrency);
        while !apps.is_empty() {
            apps.retain(|(app, known)| {
                let most = self.options.max_concurrency_per_app;
                let has_room = self.under_way.room(app, most, free, now) > 0;
                let next = if has_room { self.ready.next(app) } else { None };
                let Some(one) = next else { return false };
                let (sender, clock) = (self.sender.clone(), self.clock.clone());
                let (known, schedule) = (known.clone(), self.options.schedule.clone());
                let (metrics, traces) = (self.metrics.clone(), self.traces.clone());
                let attempt = attempt(sender, clock, known, schedule, metrics, traces, one);
                self.under_way.start(app.clone(), attempt);
                self.begun += 1;
                free = free.saturating_sub(1);
                true
            });
        }
    }

    /// Whether tries will end soon that are not the last: nothing is held up by those that ended.
    fn more(&self) -> bool {
        !self.ready.is_empty() && self.under_way.len() > 0
    }

    fn write_down(&mut self) {
        let waits = self.unwritten.waits(self.more());
        if waits || self.unwritten.is_empty() || !self.writing.is_free() {
            return;
        }
        let written = std::mem::take(&mut self.unwritten);
        let now = self.clock.now();
        self.writing.begin(|mut line| async move {
            let result = written.write(&mut line, now).await;
            (line, (written, result))
        });
    }

    /// Takes what is due, as far as there is room for it or will be soon.
    fn take(&mut self) {
        if !self.look || !self.taking.is_free() {
            return;
        }
        self.look = false;
        let now = self.clock.now();
        let free = self.under_way.free(self.options.max_concurrency);
        let most = (free + AHEAD).saturating_sub(self.ready.len());
        let mut rooms = Vec::new();
        for known in self.directory.subscribers() {
            let app = (known.app.buin, known.app.app_id.clone());
            let waiting = self.ready.waiting(&app);
            let room = self.under_way.room(&app, self.options.max_concurrency_per_app, free, now);
            let ahead = self.under_way.pace(&app).min(AHEAD);
            // Not a few at a time, while there is no hurry.
            let places = if waiting > ahead / 2 { 0 } else { room + ahead - waiting };
            if places > 0 {
                let taken = self.under_way.taken(&app) + waiting;
                let probes = self.under_way.is_slowed(&app);
                rooms.push(Room { buin: app.0, app_id: app.1, taken, places, probes });
            }
        }
        if rooms.is_empty() || most == 0 {
            return;
        }
        let lease = Lease::new(now + self.options.lease);
        self.taking.begin(|mut line| async move {
            let claims = take(&mut line, &rooms, most, now, &lease).await;
            (line, (lease, claims))
        });
    }
}
