//! Random changes, worker failures and operator commands, compared with a model of the queue.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{DateTime, Utc};
use muster::domain::{AppId, AttemptRecord, DeliveryFilter, DeliveryState, SessionId};
use muster::repository::deliveries::{
    self, AppCapacity, ClaimedDelivery, CompletedAttempt, Lease, NextState,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::receiver::Receiver;
use super::{connection, count, create, delivery_id, rename, spawn, subscribe};
use crate::harness::store::{self, PgConnection, StoredApp};
use crate::harness::{TestApp, replay};

const LEASE: Duration = Duration::from_secs(45);

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// The delivery may be claimed from this time on, after all earlier versions have ended.
    Waiting(DateTime<Utc>),
    Leased(DateTime<Utc>),
    Ended,
}

/// One queue: the versions of a session for an app.
type QueueKey = (SessionId, AppId);

/// The expected state of all queues.
#[derive(Default)]
struct Model {
    queues: BTreeMap<QueueKey, BTreeMap<i64, State>>,
    attempts: usize,
}

impl Model {
    /// The earliest version of a queue that has not ended.
    fn head(&self, key: &QueueKey) -> Option<(i64, State)> {
        let mut versions = self.queues[key].iter();
        versions
            .find(|(_, state)| **state != State::Ended)
            .map(|(version, state)| (*version, *state))
    }

    fn state(&mut self, claimed: &ClaimedDelivery) -> &mut State {
        let key = (claimed.id.session_id, claimed.id.app_id.clone());
        self.queues.get_mut(&key).unwrap().get_mut(&claimed.id.version.get()).unwrap()
    }

    /// Checks that a delivery was claimable, and leases it.
    fn claim(&mut self, claimed: &ClaimedDelivery, now: DateTime<Utc>) {
        let key = (claimed.id.session_id, claimed.id.app_id.clone());
        let (version, state) = self.head(&key).expect("every version of this queue has ended");
        assert_eq!(claimed.id.version.get(), version, "the order is broken: {:?}", self.queues);
        match state {
            State::Waiting(from) => assert!(from <= now, "too early: {from}, {now}"),
            State::Leased(until) => assert!(until <= now, "still leased: {until}, {now}"),
            State::Ended => unreachable!(),
        }
        *self.state(claimed) = State::Leased(now + LEASE);
        self.attempts += 1;
    }

    /// The number of deliveries of this app that a worker could claim now.
    fn due(&self, app_id: &AppId, now: DateTime<Utc>) -> usize {
        let heads = self.queues.keys().filter(|key| key.1 == *app_id).map(|key| self.head(key));
        heads
            .flatten()
            .filter(|(_, state)| match state {
                State::Waiting(from) => *from <= now,
                State::Leased(until) => *until <= now,
                State::Ended => false,
            })
            .count()
    }

    /// Stores the result of an attempt.
    fn complete(&mut self, claimed: &ClaimedDelivery, next: NextState, now: DateTime<Utc>) {
        *self.state(claimed) = match next {
            NextState::Delivered | NextState::Failed => State::Ended,
            NextState::RetryAt(at) => State::Waiting(at),
        };
        if next == NextState::Delivered || next == NextState::Failed {
            // The next version becomes due at once, even if it waited for its own retry.
            let key = (claimed.id.session_id, claimed.id.app_id.clone());
            let versions = self.queues.get_mut(&key).unwrap();
            let mut later = versions.range_mut(claimed.id.version.get() + 1..);
            let successor = later.find(|(_, state)| **state != State::Ended);
            if let Some((_, State::Waiting(from))) = successor {
                *from = now.min(*from);
            }
        }
    }
}

/// The system under test, the model, and the claims of the workers.
struct ModelTest {
    app: TestApp,
    apps: Vec<StoredApp>,
    sessions: Vec<(String, i64)>,
    model: Model,
    /// Claimed deliveries whose result is not stored yet.
    claimed: Vec<ClaimedDelivery>,
    rng: StdRng,
    /// The connection of all workers, which take turns.
    connection: PgConnection,
    _receiver: Receiver,
}

impl ModelTest {
    async fn start(seed: u64) -> Self {
        let (app, receiver) = (spawn().await, Receiver::start().await);
        let mut apps = Vec::new();
        for _ in 0..2 {
            apps.push(subscribe(&app, &receiver).await);
        }
        let connection = connection(&app).await;
        Self {
            app,
            apps,
            sessions: Vec::new(),
            model: Model::default(),
            claimed: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
            connection,
            _receiver: receiver,
        }
    }

    fn now(&self) -> DateTime<Utc> {
        self.app.clock.now()
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..8 => {
                let id = create(&self.app).await;
                self.sessions.push((id, 0));
                self.add_version(self.sessions.len() - 1);
            }
            8..30 if !self.sessions.is_empty() => {
                // Some sessions change much more often than others.
                let busy = self.sessions.len().min(3);
                let index = self.rng.random_range(0..busy);
                rename(&self.app, &self.sessions[index].0, 1).await;
                self.add_version(index);
            }
            30..50 => {
                let (slots, limit) = (self.rng.random_range(1..5), self.rng.random_range(1..8));
                // One of the apps may be paused.
                let first = self.rng.random_range(0..3) % 2;
                let last = self.rng.random_range(first..2);
                self.claim(first..=last, slots, limit).await;
            }
            50..75 => self.complete_some(0.4).await,
            75..82 => self.lose_results(),
            82..87 => self.replay().await,
            _ => {
                let seconds = *[0, 1, 1, 5, 20, 46, 4_000].choose(&mut self.rng).unwrap();
                self.app.clock.advance(Duration::from_secs(seconds));
            }
        }
    }

    /// Adds a new version of a session to the model.
    fn add_version(&mut self, index: usize) {
        let now = self.now();
        let (id, version) = &mut self.sessions[index];
        *version += 1;
        for stored in &self.apps {
            let key = (id.parse().unwrap(), stored.app.app_id.clone());
            self.model.queues.entry(key).or_default().insert(*version, State::Waiting(now));
        }
    }

    /// Claims for some apps like a worker, until no delivery is due or no slot is free. Each app
    /// has this number of slots, and the worker has `limit` slots in all.
    async fn claim(&mut self, apps: RangeInclusive<usize>, slots: usize, limit: usize) {
        let now = self.now();
        let apps = &self.apps[apps];
        let mut free_slots: Vec<usize> = vec![slots; apps.len()];
        let mut left = limit;
        loop {
            let capacities: Vec<AppCapacity> = apps
                .iter()
                .zip(&free_slots)
                .filter(|(_, free)| **free > 0)
                .map(|(stored, free)| AppCapacity {
                    buin: stored.app.buin,
                    app_id: stored.app.app_id.clone(),
                    in_flight: 0,
                    probing: false,
                    slots: (*free).min(left),
                })
                .collect();
            if capacities.is_empty() || left == 0 {
                break;
            }
            let claims = deliveries::claim(
                &mut self.connection,
                &capacities,
                left,
                now,
                &Lease::new(now + LEASE),
            )
            .await
            .unwrap();
            for claimed in claims.claimed {
                self.model.claim(&claimed, now);
                let app = apps.iter().position(|stored| stored.app.app_id == claimed.id.app_id);
                free_slots[app.unwrap()] -= 1;
                left -= 1;
                self.claimed.push(claimed);
            }
            if !claims.more {
                break;
            }
        }
        // A due delivery is left only if its app or the worker has no free slot.
        for (stored, free) in apps.iter().zip(free_slots) {
            let due = self.model.due(&stored.app.app_id, now);
            assert!(due == 0 || free == 0 || left == 0, "{due} are due, {free} slots are free");
        }
    }

    /// Stores the results of some claimed deliveries, also of those with a lost lease.
    async fn complete_some(&mut self, failure_rate: f64) {
        let now = self.now();
        for _ in 0..self.rng.random_range(1..4) {
            if self.claimed.is_empty() {
                break;
            }
            let claimed = self.claimed.swap_remove(self.rng.random_range(0..self.claimed.len()));
            let next = match self.rng.random_bool(failure_rate) {
                false => NextState::Delivered,
                true if self.rng.random_bool(0.2) => NextState::Failed,
                true => NextState::RetryAt(
                    now + Duration::from_secs(*[1, 5, 30, 3_600].choose(&mut self.rng).unwrap()),
                ),
            };
            let record = AttemptRecord {
                attempt: claimed.attempt,
                started_at: now,
                duration_ms: 1,
                status: None,
                error: (next != NextState::Delivered).then(|| "no".to_owned()),
                response_excerpt: None,
            };
            let id = claimed.id.clone();
            // The current lease comes from the database, because the model has no lease ids.
            let is_held = store::current_lease(&self.app, &id).await == Some(claimed.lease);
            if is_held {
                assert!(matches!(self.model.state(&claimed), State::Leased(_)));
                self.model.complete(&claimed, next, now);
            }
            let completed = CompletedAttempt { id, lease: claimed.lease, next_state: next, record };
            let updated =
                deliveries::complete(&mut self.connection, &[completed], now).await.unwrap();
            assert_eq!(updated, u64::from(is_held));
        }
    }

    /// A worker dies, and the results of its deliveries are lost.
    fn lose_results(&mut self) {
        let remaining = self.rng.random_range(0..=self.claimed.len());
        self.claimed.truncate(remaining);
    }

    /// An operator replays one delivery, those of a session for an app, or all failed ones.
    async fn replay(&mut self) {
        let now = self.now();
        let Some((id, versions)) = self.sessions.choose(&mut self.rng).cloned() else { return };
        let stored = self.apps.choose(&mut self.rng).unwrap().clone();
        let version = self.rng.random_range(1..=versions);
        let filter = match self.rng.random_range(0..4) {
            0 => DeliveryFilter {
                app_id: Some(stored.app.app_id.clone()),
                session_id: Some(id.parse().unwrap()),
                ..DeliveryFilter::default()
            },
            1 => DeliveryFilter { state: Some(DeliveryState::Failed), ..DeliveryFilter::default() },
            _ => DeliveryFilter {
                id: Some(delivery_id(&id, version, &stored)),
                ..DeliveryFilter::default()
            },
        };
        let replayed: BTreeSet<_> = store::list_deliveries(&self.app, &filter)
            .await
            .into_iter()
            .filter(|listed| listed.state != DeliveryState::Leased)
            .map(|listed| (listed.id.session_id, listed.id.app_id, listed.id.version.get()))
            .collect();
        let count = replay(&self.app.pool, &filter, now).await;
        assert_eq!(usize::try_from(count).unwrap(), replayed.len());
        for (session, app_id, version) in replayed {
            let versions = self.model.queues.get_mut(&(session, app_id)).unwrap();
            versions.insert(version, State::Waiting(now));
        }
    }

    /// Makes every attempt succeed until all deliveries have ended. Returns the number of attempts.
    async fn deliver_all(mut self) -> usize {
        let open = |model: &Model| {
            let states = model.queues.values().flat_map(BTreeMap::values);
            states.filter(|state| **state != State::Ended).count()
        };
        let mut rounds = 0;
        while open(&self.model) > 0 {
            rounds += 1;
            assert!(rounds < 2_000, "{} deliveries never end", open(&self.model));
            if rounds % 50 == 1 {
                // Retries become due, and leases expire.
                self.app.clock.advance(Duration::from_secs(4_000));
            }
            self.claim(0..=1, 8, 16).await;
            while !self.claimed.is_empty() {
                self.complete_some(0.0).await;
            }
        }
        let total: i64 = self.sessions.iter().map(|(_, versions)| versions).sum();
        let all = count(&self.app, DeliveryState::Delivered).await
            + count(&self.app, DeliveryState::Failed).await;
        assert_eq!(i64::try_from(all).unwrap(), 2 * total);
        self.model.attempts
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_and_due_deliveries_match_the_model() {
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(8);
    let mut attempts = 0;
    for seed in 0..seeds {
        // The output of a failed test names the seed.
        println!("seed {seed}");
        let mut test = ModelTest::start(seed).await;
        for _ in 0..250 {
            test.step().await;
        }
        attempts += test.deliver_all().await;
    }
    assert!(attempts > 200, "only {attempts} attempts");
}
