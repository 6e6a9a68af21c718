//! Statements that change many rows lock them in one order, with every plan of PostgreSQL.
//!
//! The tasks of a test change the same rows. Each has other settings of the planner, so PostgreSQL
//! finds the rows in another order for each of them, as another version of PostgreSQL may. A
//! deadlock fails the task, or PostgreSQL counts it.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use muster::clock::Clock;
use muster::domain::{
    Account, Action, AppId, AttemptRecord, Attributes, Buin, Change, DeliveryFilter, DeliveryState,
    IdempotencyKey, NewSession, RemovePolicy, Request, Rules, Session, SessionId, Title, Update,
};
use muster::repository::audit::AuditContext;
use muster::repository::deliveries::{
    self, AppCapacity, CompletedAttempt, Lease, NextState, ReleasedDelivery,
};
use muster::repository::keys::ApiKeyUse;
use muster::repository::sessions::{
    self, ChangeSet, NewSessionRecord, Provenance, VersionedChange,
};
use muster::repository::{self, audit, idempotency, keys};
use muster::wire::ApiKey;
use rand::seq::SliceRandom as _;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::callbacks::receiver::Receiver;
use crate::callbacks::subscribe;
use crate::harness::store::{self, PgConnectOptions, PgConnection, Pool};
use crate::harness::{BUIN, TestApp, replay, spawn_app_with};

/// The settings of each task.
const PLANS: [&[(&str, &str)]; 4] = [
    &[],
    &[("enable_nestloop", "off"), ("enable_mergejoin", "off")],
    &[("enable_nestloop", "off"), ("enable_hashjoin", "off")],
    &[("enable_hashjoin", "off"), ("enable_mergejoin", "off"), ("enable_seqscan", "off")],
];

const RULES: Rules = Rules {
    min_members: 1,
    min_remaining: 1,
    max_members: 2_000,
    remove_members: RemovePolicy::Owner,
};

async fn spawn() -> TestApp {
    spawn_app_with(|settings| settings.delivery.enabled = false).await
}

fn options(app: &TestApp, plan: &[(&str, &str)]) -> PgConnectOptions {
    // PostgreSQL takes these plans for expensive ones, and would compile them.
    app.database.options.clone().options(plan.iter().copied().chain([("jit", "off")]))
}

fn pool_with(app: &TestApp, plan: &[(&str, &str)]) -> Pool {
    store::open_pool(options(app, plan), &app.settings)
}

/// Waits for the tasks, and checks that PostgreSQL found no deadlock in the database.
async fn join(app: TestApp, mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let mut outside = store::connect(&app).await;
    app.shutdown_signal.stop();
    app.pool.close().await;
    assert_eq!(store::count_deadlocks(&mut outside).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_locked_in_one_order() {
    const ROUNDS: usize = 25;
    let (app, receiver) = (spawn().await, Receiver::start().await);
    let mut capacities = Vec::new();
    for _ in 0..2 {
        let app = subscribe(&app, &receiver).await.app;
        let (buin, app_id) = (app.buin, app.app_id);
        capacities.push(AppCapacity { buin, app_id, in_flight: 0, slots: 24, probing: false });
    }
    for _ in 0..30 {
        let session = app.session(&["a", "b", "c"]).await;
        for title in ["t1", "t2"] {
            app.change(&session, "a", serde_json::json!({ "title": title })).await;
        }
    }
    let mut tasks = JoinSet::new();
    for plan in PLANS {
        let connection = store::connect_with(&options(&app, plan)).await;
        tasks.spawn(work(connection, capacities.clone(), app.clock.clone(), ROUNDS));
        let (pool, clock) = (pool_with(&app, plan), app.clock.clone());
        tasks.spawn(async move {
            for _ in 0..ROUNDS {
                let now = clock.now();
                replay(&pool, &DeliveryFilter::default(), now).await;
                let before = now + TimeDelta::seconds(1);
                deliveries::prune(&pool, DeliveryState::Delivered, before, 1).await.unwrap();
            }
            pool.close().await;
        });
    }
    join(app, tasks).await;
}

/// Claims deliveries and completes, releases or forgets them, like a worker.
async fn work(
    mut connection: PgConnection,
    capacities: Vec<AppCapacity>,
    clock: Clock,
    rounds: usize,
) {
    for _ in 0..rounds {
        let now = clock.now();
        let lease = Lease::new(now + Duration::from_secs(45));
        let claims = deliveries::claim(&mut connection, &capacities, 40, now, &lease).await;
        let (mut completed, mut released) = (Vec::new(), Vec::new());
        for (number, claimed) in claims.unwrap().claimed.into_iter().enumerate() {
            let next_state = match number % 4 {
                0 => NextState::Delivered,
                1 => NextState::RetryAt(now),
                2 => {
                    released.push(ReleasedDelivery::from(claimed));
                    continue;
                }
                _ => continue,
            };
            let record = AttemptRecord {
                attempt: claimed.attempt,
                started_at: now,
                duration_ms: 1,
                status: None,
                error: None,
                response_excerpt: None,
            };
            completed.push(CompletedAttempt {
                id: claimed.id,
                lease: claimed.lease,
                next_state,
                record,
            });
        }
        // No worker finds its results in the order of the locks.
        completed.shuffle(&mut rand::rng());
        released.shuffle(&mut rand::rng());
        deliveries::complete(&mut connection, &completed, now).await.unwrap();
        deliveries::release(&mut connection, &released, now).await.unwrap();
        deliveries::release_lost_leases(&mut connection, &[lease], now).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_locked_in_one_order() {
    const ROUNDS: usize = 20;
    let app = spawn().await;
    let mut ids: Vec<SessionId> = Vec::new();
    for _ in 0..30 {
        let session = app.session(&["a", "b", "c"]).await;
        ids.push(session["sessionId"].as_str().unwrap().parse().unwrap());
    }
    let mut tasks = JoinSet::new();
    for (number, plan) in PLANS.into_iter().enumerate() {
        let mut connection = store::connect_with(&options(&app, plan)).await;
        let (ids, clock, app_id) = (ids.clone(), app.clock.clone(), AppId::generate());
        tasks.spawn(async move {
            let operator = Account::new("a").unwrap();
            for round in 0..ROUNDS {
                let newcomer = Account::new(&format!("m{number}-{round}")).unwrap();
                let update = Update::for_members(vec![newcomer], vec![]).unwrap();
                let request = Request::for_member(operator.clone(), Action::Update(update));
                let found = sessions::find(&mut connection, &ids).await.unwrap();
                let mut decided: Vec<(Session, Change)> = found
                    .into_iter()
                    .map(|(_, session)| {
                        let session = session.unwrap();
                        let change = session.decide(&request, &RULES, clock.now()).unwrap();
                        (session, change.unwrap())
                    })
                    .collect();
                decided.shuffle(&mut rand::rng());
                let provenance = provenance(&app_id, &operator, None);
                let change_sets: Vec<ChangeSet<'_>> = decided
                    .iter()
                    .map(|(before, change)| ChangeSet {
                        before,
                        steps: vec![VersionedChange { change, provenance }],
                    })
                    .collect();
                let at = clock.fixed_time();
                sessions::update_if_version(&mut connection, &change_sets, at).await.unwrap();
            }
        });
    }
    join(app, tasks).await;
}

fn provenance<'a>(
    app_id: &'a AppId,
    operator: &'a Account,
    key: Option<&'a IdempotencyKey>,
) -> Provenance<'a> {
    Provenance { app_id, operator, reason: None, key, trace: None }
}

/// Creates a session for each key in one statement.
async fn create_with_keys(
    connection: &mut PgConnection,
    keys: &[IdempotencyKey],
    clock: &Clock,
) -> Result<(), repository::Error> {
    let app_id: AppId = "app".parse().unwrap();
    let account = Account::new("a").unwrap();
    let session = || {
        let new = NewSession {
            title: Title::new("t").unwrap(),
            creator: account.clone(),
            members: Vec::new(),
            attributes: Attributes::default(),
            reason: None,
        };
        let id = SessionId::new(Uuid::from_u128(rand::random()));
        Session::create(id, Buin::new(BUIN).unwrap(), new, &RULES, clock.now()).unwrap()
    };
    let created: Vec<Session> = keys.iter().map(|_| session()).collect();
    let records: Vec<NewSessionRecord<'_>> = created
        .iter()
        .zip(keys)
        .map(|(session, key)| NewSessionRecord {
            session,
            provenance: provenance(&app_id, &account, Some(key)),
        })
        .collect();
    sessions::insert(connection, &records, clock.fixed_time()).await.map(drop)
}

/// The same requests reach two servers in different order. One of the statements waits for the
/// other, and fails with the error that makes the service replay the stored outcomes.
#[tokio::test(flavor = "multi_thread")]
async fn idempotency_keys_are_written_in_one_order() {
    let app = spawn().await;
    let mut first = store::connect_with(&options(&app, PLANS[0])).await;
    let mut second = store::connect_with(&options(&app, PLANS[3])).await;
    // The two statements meet in the middle of their keys.
    store::slow_down_key_inserts(&app).await;
    for round in 0..5 {
        let mut keys: Vec<IdempotencyKey> = (0..40)
            .map(|number| IdempotencyKey::new(&format!("{round}-{number}"), [0; 32]).unwrap())
            .collect();
        let mut others = keys.clone();
        keys.shuffle(&mut rand::rng());
        others.shuffle(&mut rand::rng());
        let (one, other) = tokio::join!(
            create_with_keys(&mut first, &keys, &app.clock),
            create_with_keys(&mut second, &others, &app.clock),
        );
        let errors: Vec<repository::Error> =
            [one, other].into_iter().filter_map(Result::err).collect();
        assert!(
            matches!(errors[..], [repository::Error::DuplicateIdempotencyKey]),
            "round {round}: {errors:?}"
        );
    }
    let now = app.clock.now() + TimeDelta::hours(25);
    let mut tasks = JoinSet::new();
    for plan in PLANS {
        let pool = pool_with(&app, plan);
        tasks.spawn(async move {
            while idempotency::prune(&pool, now, 50).await.unwrap() > 0 {}
            pool.close().await;
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!(store::count_idempotency_keys(&app.pool).await, 0);
    drop((first, second));
    join(app, tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_and_keys_are_locked_in_one_order() {
    let app = spawn().await;
    store::insert_old_audit_entries(&app, 1_000).await;
    let stored = store::new_app(BUIN, &[]);
    store::insert(&app.pool, &stored).await;
    let mut hashes: Vec<ApiKeyUse> = Vec::new();
    for _ in 0..60 {
        let key = store::insert_key(&app.pool, BUIN, stored.app.app_id.as_str()).await;
        let hash = ApiKey::parse(&key).unwrap().hash();
        hashes.push(ApiKeyUse { hash, from: "192.0.2.1/32".parse().unwrap() });
    }
    let hashes = Arc::new(hashes);
    let mut tasks = JoinSet::new();
    for plan in PLANS {
        let (pool, hashes, clock) = (pool_with(&app, plan), hashes.clone(), app.clock.clone());
        tasks.spawn(async move {
            for _ in 0..30 {
                let mut hashes = hashes.to_vec();
                hashes.shuffle(&mut rand::rng());
                keys::update_last_used(&pool, &hashes, clock.now()).await.unwrap();
                let (at, actor) = (clock.now(), store::actor());
                let context = AuditContext { actor: &actor, at };
                audit::prune(&pool, at - TimeDelta::hours(1), 20, context).await.unwrap();
            }
            pool.close().await;
        });
    }
    join(app, tasks).await;
}
