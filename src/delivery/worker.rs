//! The loop of the worker: claim due deliveries, send them, write the results.
//!
//! One task owns the loop, so that one statement claims or writes many deliveries. Sending never
//! waits for a statement, and the two kinds of statements do not wait for each other. Deliveries
//! that a fast receiver soon needs are claimed ahead.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::MissedTickBehavior;

use super::CallbackSender;
use super::attempt::AttemptRunner;
use super::claim::claim_due;
use super::in_flight::InFlight;
use super::options::Options;
use super::prefetch_buffer::PrefetchBuffer;
use super::prune::run_pruner;
use super::result_buffer::ResultBuffer;
use super::single_flight::SingleFlight;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::repository::connections::dedicated_connection::DedicatedConnection;
use crate::repository::connections::pool::PoolLimits;
use crate::repository::deliveries::{AppCapacity, ClaimBatch, Lease};
use crate::repository::{self, Pool};
use crate::service::{AppDirectory, ChangeNotifier};
use crate::telemetry::Traces;
use crate::telemetry::cause_chain;

/// Deliveries that may be claimed before they have a slot, in total.
const PREFETCH: usize = 256;

/// Sends due callbacks. Any number of workers may run on one database.
pub struct Worker {
    pool: Pool,
    directory: Arc<AppDirectory>,
    attempts: Arc<AttemptRunner>,
    clock: Clock,
    options: Options,
    in_flight: InFlight,
    prefetched: PrefetchBuffer,
    /// Results that are not in the database yet.
    results: ResultBuffer,
    claiming: SingleFlight<(Lease, Result<ClaimBatch, repository::Error>)>,
    flushing: SingleFlight<(ResultBuffer, Result<(), repository::Error>)>,
    metrics: Arc<Metrics>,
    /// The number of attempts that have started.
    started: usize,
    /// Whether deliveries may be due that the worker has not looked for yet.
    poll_due: bool,
    /// Whether the database failed. The worker does not use it again before the next poll.
    database_backoff: bool,
}

impl Worker {
    /// A worker that sends to the apps of `directory`, and counts in `metrics`.
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
        // A lost write only repeats a callback: at least once.
        let connect = || DedicatedConnection::for_callbacks(&pool, limits, metrics.clone());
        let (claiming, flushing) = (SingleFlight::new(connect()), SingleFlight::new(connect()));
        let schedule = options.retry_schedule.clone();
        let (apps, counters) = (directory.clone(), metrics.clone());
        let attempts = AttemptRunner::new(sender, apps, clock.clone(), schedule, counters);
        Self {
            pool,
            directory,
            attempts: attempts.into(),
            clock,
            options,
            in_flight: InFlight::default(),
            prefetched: PrefetchBuffer::default(),
            results: ResultBuffer::default(),
            claiming,
            flushing,
            metrics,
            started: 0,
            poll_due: true,
            database_backoff: false,
        }
    }

    /// The same worker, with spans in the traces of the changes.
    #[must_use]
    pub fn with_traces(self, traces: Traces) -> Self {
        Self { attempts: self.attempts.with_traces(traces).into(), ..self }
    }

    /// Works until `stop` completes, then finishes the running attempts. `notifier` signals that
    /// there may be new deliveries.
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
                    error.warn("cannot work on callbacks; trying again");
                    self.database_backoff = true;
                },
                () = notifier.notified() => self.poll_due = true,
                _ = poll.tick() => {
                    (self.poll_due, self.database_backoff) = (true, false);
                    let subscribers = self.directory.subscribers();
                    notifier.set_interest(subscribers.iter().map(|app| app.app.buin).collect());
                    self.report();
                }
            }
        }
        pruner.abort();
        self.shut_down().await;
    }

    /// Publishes the numbers of running attempts and of open circuits, and logs failures.
    fn report(&mut self) {
        self.in_flight.retain_failures(&self.directory);
        self.in_flight.log_failures(self.clock.now());
        let callbacks = &self.metrics.callbacks;
        callbacks.in_flight.store(self.in_flight.len() as u64, Ordering::Relaxed);
        callbacks
            .open_circuit_breakers
            .store(self.in_flight.open_circuit_breakers() as u64, Ordering::Relaxed);
    }

    /// Sends everything that is due now, or becomes due by sending it, and waits for the end.
    /// Returns the number of attempts.
    ///
    /// # Errors
    /// If the database fails.
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

    /// Starts all possible work, and waits for the next event. Dropping the future loses nothing.
    async fn tick(&mut self) -> Result<(), repository::Error> {
        self.dispatch();
        if self.is_idle() { std::future::pending().await } else { self.next_event().await }
    }

    /// Releases unsent deliveries, waits for running attempts, and writes results without waiting
    /// for others: the process may be killed before the last attempt ends.
    async fn shut_down(mut self) {
        loop {
            self.results.released.extend(self.prefetched.drain());
            self.flush_results();
            if self.is_idle() {
                return;
            }
            if let Err(error) = self.next_event().await {
                // The leases end, and the callbacks are sent again: at least once.
                tracing::error!(
                    error = %cause_chain(&error),
                    "cannot store the results of callbacks that were sent"
                );
                self.results = ResultBuffer::default();
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.in_flight.len() == 0 && self.claiming.is_idle() && self.flushing.is_idle()
    }

    /// Waits for the next event, and handles it.
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
                // Slots are free again, and the next deliveries of the written sessions are due.
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

    /// Starts as many attempts as there are slots, and releases deliveries that wait too long.
    fn send(&mut self) {
        let mut apps = Vec::new();
        for app in self.prefetched.apps() {
            let context = self.directory.subscriber(app.0, &app.1);
            let released = self.prefetched.take_expired(&app, context.is_none());
            self.results.released.extend(released);
            apps.extend(context.map(|context| (app, context)));
        }
        // The first delivery of each app comes before the second one of any app.
        apps.sort_by_cached_key(|(app, _)| self.in_flight.in_flight_for(app));
        let now = self.clock.now();
        let mut free = self.in_flight.free_slots(self.options.max_concurrency);
        while !apps.is_empty() {
            apps.retain(|(app, context)| {
                let max = self.options.max_concurrency_per_app;
                let has_slot = self.in_flight.slots_for(app, max, free, now) > 0;
                let next = if has_slot { self.prefetched.pop(app) } else { None };
                let Some(delivery) = next else { return false };
                let attempt = self.attempts.clone().run(context.clone(), delivery);
                self.in_flight.start(context.clone(), attempt);
                self.started += 1;
                free = free.saturating_sub(1);
                true
            });
        }
    }

    /// Whether more attempts will end soon while deliveries are buffered. Results may wait for
    /// others then, because the waiting results delay no delivery.
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

    /// Claims due deliveries, as many as there are slots now or soon.
    fn claim(&mut self) {
        if !self.poll_due || !self.claiming.is_idle() {
            return;
        }
        self.poll_due = false;
        self.in_flight.retain_circuit_breakers(&self.directory);
        let now = self.clock.now();
        let free = self.in_flight.free_slots(self.options.max_concurrency);
        let max = (free + PREFETCH).saturating_sub(self.prefetched.len());
        let mut capacities = Vec::new();
        for context in self.directory.subscribers() {
            let app = (context.app.buin, context.app.app_id.clone());
            let buffered = self.prefetched.len_for(&app);
            let slots =
                self.in_flight.slots_for(&app, self.options.max_concurrency_per_app, free, now);
            let prefetch = self.in_flight.ack_rate(&app).min(PREFETCH);
            // A buffer that is more than half full is not refilled: one claim takes many.
            let slots = if buffered > prefetch / 2 { 0 } else { slots + prefetch - buffered };
            if slots > 0 {
                let in_flight = self.in_flight.in_flight_for(&app) + buffered;
                let probing = self.in_flight.is_circuit_breaker_open(&app);
                let (buin, app_id) = app;
                capacities.push(AppCapacity { buin, app_id, in_flight, slots, probing });
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
