//! The loop: take what is due, send it, write down what became of it.
//!
//! One task owns the loop, so statements are shared by everything that is under way: each takes, or
//! writes down, many deliveries. Sending never waits for a statement, nor one statement for the
//! other; what a quick receiver will want next is taken ahead.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::MissedTickBehavior;

use super::CallbackSender;
use super::attempt::attempt;
use super::claim::claim_due;
use super::in_flight::InFlight;
use super::options::Options;
use super::prefetch_buffer::PrefetchBuffer;
use super::prune::run_pruner;
use super::result_buffer::ResultBuffer;
use super::single_flight::SingleFlight;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::repository;
use crate::repository::Pool;
use crate::repository::dedicated_connection::DedicatedConnection;
use crate::repository::deliveries::{AppCapacity, ClaimBatch, Lease};
use crate::repository::pool::PoolLimits;
use crate::service::{AppDirectory, ChangeNotifier};
use crate::telemetry::Traces;

/// So many may be taken before there is a place for them, in all.
const PREFETCH: usize = 256;

/// Sends what is due. Any number may run on one database.
pub struct Worker {
    pool: Pool,
    directory: Arc<AppDirectory>,
    sender: CallbackSender,
    clock: Clock,
    options: Options,
    in_flight: InFlight,
    prefetched: PrefetchBuffer,
    /// Tries that ended, and what was taken and not tried: not yet written down.
    results: ResultBuffer,
    claiming: SingleFlight<(Lease, Result<ClaimBatch, repository::Error>)>,
    flushing: SingleFlight<(ResultBuffer, Result<(), repository::Error>)>,
    metrics: Arc<Metrics>,
    traces: Traces,
    /// How many tries have begun.
    started: usize,
    /// Whether something may be due that was not looked for yet.
    poll_due: bool,
    /// Whether the database failed, so that nothing is asked of it until the next look.
    database_backoff: bool,
}

impl Worker {
    /// A worker that sends to the apps of `directory`, and counts what it does in `metrics`.
    #[must_use]
    pub fn new(
        pool: Pool,
        limits: PoolLimits,
        directory: Arc<AppDirectory>,
        sender: CallbackSender,
        clock: Clock,
        options: Options,
        metrics: Arc<Metrics>,
    ) -> Self {
        // Whatever they forget is sent again: at least once.
        let connection = || DedicatedConnection::for_callbacks(&pool, limits, metrics.clone());
        let (claiming, flushing) =
            (SingleFlight::new(connection()), SingleFlight::new(connection()));
        Self {
            pool,
            directory,
            sender,
            clock,
            options,
            in_flight: InFlight::default(),
            prefetched: PrefetchBuffer::default(),
            results: ResultBuffer::default(),
            claiming,
            flushing,
            metrics,
            traces: Traces::default(),
            started: 0,
            poll_due: true,
            database_backoff: false,
        }
    }

    /// The same, in the traces of the changes that it tells of.
    #[must_use]
    pub fn with_traces(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Works until `stop` is done; then finishes what is under way. `changed` is notified when there
    /// may be something new.
    pub async fn run(mut self, notifier: Arc<ChangeNotifier>, stop: impl Future<Output = ()>) {
        let pruner =
            tokio::spawn(run_pruner(self.pool.clone(), self.clock.clone(), self.options.clone()));
        tokio::pin!(stop);
        let mut poll = tokio::time::interval(self.options.poll_interval);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => break,
                result = self.tick() => if let Err(error) = result {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot work on callbacks; trying again"
                    );
                    self.database_backoff = true;
                },
                () = notifier.notified() => self.poll_due = true,
                _ = poll.tick() => {
                    (self.poll_due, self.database_backoff) = (true, false);
                    let subscribers = self.directory.subscribers();
                    notifier.set_interest(subscribers.iter().map(|app| app.app.buin).collect());
                    self.publish_gauges();
                }
            }
        }
        pruner.abort();
        self.shut_down().await;
    }

    /// Tells how many tries run, and how many apps are slowed down.
    fn publish_gauges(&self) {
        let callbacks = &self.metrics.callbacks;
        callbacks.in_flight.store(self.in_flight.len() as u64, Ordering::Relaxed);
        callbacks.open_circuits.store(self.in_flight.open_circuits() as u64, Ordering::Relaxed);
    }

    /// Sends everything that is due now, and what becomes due by that, and waits for it. Gives how
    /// many tries that were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drain(&mut self) -> Result<usize, repository::Error> {
        self.poll_due = true;
        let started_before = self.started;
        loop {
            self.dispatch();
            if self.is_idle() {
                return Ok(self.started - started_before);
            }
            self.next_event().await?;
        }
    }

    /// Begins what can begin, and waits for the first thing that ends. May be dropped while it
    /// waits: nothing is lost.
    async fn tick(&mut self) -> Result<(), repository::Error> {
        self.dispatch();
        if self.is_idle() { std::future::pending().await } else { self.next_event().await }
    }

    /// Gives back what was not sent, waits for what is under way, and writes that down one by one:
    /// whoever waits for this may lose patience with the last ones.
    async fn shut_down(mut self) {
        loop {
            self.results.released.extend(self.prefetched.drain());
            self.flush_results();
            if self.is_idle() {
                return;
            }
            if let Err(error) = self.next_event().await {
                // Their leases end, and they are sent again: at least once.
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "callbacks that were sent could not be written down"
                );
                self.results = ResultBuffer::default();
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.in_flight.len() == 0 && self.claiming.is_idle() && self.flushing.is_idle()
    }

    /// Waits for the first thing that ends.
    async fn next_event(&mut self) -> Result<(), repository::Error> {
        let more_expected = self.has_more_in_flight();
        tokio::select! {
            finished = self.in_flight.join_finished(&self.clock) => self.results.push(finished),
            () = self.results.linger(more_expected), if self.flushing.is_idle() && !self.database_backoff => {}
            (unflushed, result) = self.flushing.join() => {
                if let Err(error) = result {
                    self.results.restore(unflushed);
                    return Err(error);
                }
                // There is room, and what they held up is due.
                self.poll_due = true;
            }
            (lease, claims) = self.claiming.join() => {
                if claims.as_ref().is_err_and(repository::Error::is_outcome_unknown) {
                    self.results.lost_leases.push(lease);
                }
                let claims = claims?;
                self.poll_due |= claims.more;
                self.prefetched.push_all(claims.claimed);
            }
        }
        Ok(())
    }

    fn dispatch(&mut self) {
        self.send();
        if !self.database_backoff {
            self.flush_results();
            self.claim();
        }
    }

    /// Sends what is ready, as far as there are places, and gives back what waits too long for one.
    fn send(&mut self) {
        let mut apps = Vec::new();
        for app in self.prefetched.apps() {
            let app_context = self.directory.subscriber(app.0, &app.1);
            let released = self.prefetched.take_expired(&app, app_context.is_none());
            self.results.released.extend(released);
            apps.extend(app_context.map(|app_context| (app, app_context)));
        }
        // Each app's first before any app's second.
        apps.sort_by_cached_key(|(app, _)| self.in_flight.in_flight_for(app));
        let now = self.clock.now();
        let mut free = self.in_flight.free_slots(self.options.max_concurrency);
        while !apps.is_empty() {
            apps.retain(|(app, app_context)| {
                let max = self.options.max_concurrency_per_app;
                let has_room = self.in_flight.slots_for(app, max, free, now) > 0;
                let next = if has_room { self.prefetched.pop(app) } else { None };
                let Some(delivery) = next else { return false };
                let (sender, clock) = (self.sender.clone(), self.clock.clone());
                let (app_context, schedule) =
                    (app_context.clone(), self.options.retry_schedule.clone());
                let (metrics, traces) = (self.metrics.clone(), self.traces.clone());
                let attempt =
                    attempt(sender, clock, app_context, schedule, metrics, traces, delivery);
                self.in_flight.start(app.clone(), attempt);
                self.started += 1;
                free = free.saturating_sub(1);
                true
            });
        }
    }

    /// Whether tries will end soon that are not the last: nothing is held up by those that ended.
    fn has_more_in_flight(&self) -> bool {
        !self.prefetched.is_empty() && self.in_flight.len() > 0
    }

    fn flush_results(&mut self) {
        let lingering = self.results.is_lingering(self.has_more_in_flight());
        if lingering || self.results.is_empty() || !self.flushing.is_idle() {
            return;
        }
        let results = std::mem::take(&mut self.results);
        let now = self.clock.now();
        self.flushing.start(|mut connection| async move {
            let result = results.flush(&mut connection, now).await;
            (connection, (results, result))
        });
    }

    /// Takes what is due, as far as there is room for it or will be soon.
    fn claim(&mut self) {
        if !self.poll_due || !self.claiming.is_idle() {
            return;
        }
        self.poll_due = false;
        let now = self.clock.now();
        let free = self.in_flight.free_slots(self.options.max_concurrency);
        let max = (free + PREFETCH).saturating_sub(self.prefetched.len());
        let mut capacities = Vec::new();
        for app_context in self.directory.subscribers() {
            let app = (app_context.app.buin, app_context.app.app_id.clone());
            let buffered = self.prefetched.len_for(&app);
            let slots =
                self.in_flight.slots_for(&app, self.options.max_concurrency_per_app, free, now);
            let prefetch = self.in_flight.ack_rate(&app).min(PREFETCH);
            // Not a few at a time, while there is no hurry.
            let wanted_slots =
                if buffered > prefetch / 2 { 0 } else { slots + prefetch - buffered };
            if wanted_slots > 0 {
                let in_flight = self.in_flight.in_flight_for(&app) + buffered;
                let probing = self.in_flight.is_circuit_open(&app);
                capacities.push(AppCapacity {
                    buin: app.0,
                    app_id: app.1,
                    in_flight,
                    slots: wanted_slots,
                    probing,
                });
            }
        }
        if capacities.is_empty() || max == 0 {
            return;
        }
        let lease = Lease::new(now + self.options.lease);
        self.claiming.start(|mut connection| async move {
            let claims = claim_due(&mut connection, &capacities, max, now, &lease).await;
            (connection, (lease, claims))
        });
    }
}
