//! Leases: workers that die, and workers that run at the same time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use muster::clock::Clock;
use muster::config::Settings;
use muster::domain::{AttemptRecord, DeliveryFilter, DeliveryState};
use muster::repository::deliveries::{
    self, AppCapacity, ClaimedDelivery, CompletedAttempt, Lease, NextState, ReleasedDelivery,
};

use super::receiver::{Reply, reply_with};
use super::{
    attempts, connection, count, create, delivery_id, find, rename, spawn_subscribed, subscribe,
    worker, worker_with, worker_with_clock,
};
use crate::harness::store::{self, StoredApp};
use crate::harness::{TestApp, replay};

const LEASE: Duration = Duration::from_secs(45);
/// The longest time of an attempt.
const ATTEMPT: Duration = Duration::from_secs(15);

fn capacity(stored: &StoredApp, slots: usize) -> AppCapacity {
    let (buin, app_id) = (stored.app.buin, stored.app.app_id.clone());
    AppCapacity { buin, app_id, in_flight: 0, slots, probing: false }
}

/// Claims the due deliveries of an app, like a worker.
async fn claim(app: &TestApp, stored: &StoredApp) -> Vec<ClaimedDelivery> {
    claim_at(app, stored, app.clock.now()).await
}

/// Claims the deliveries that are due at `now`.
async fn claim_at(app: &TestApp, stored: &StoredApp, now: DateTime<Utc>) -> Vec<ClaimedDelivery> {
    let capacity = capacity(stored, 16);
    deliveries::claim(&mut connection(app).await, &[capacity], 64, now, &Lease::new(now + LEASE))
        .await
        .unwrap()
        .claimed
}

/// The result of an attempt, for the repository.
fn completed(claimed: &ClaimedDelivery, next_state: NextState) -> CompletedAttempt {
    let record = AttemptRecord {
        attempt: claimed.attempt,
        started_at: claimed.first_tried_at,
        duration_ms: 1,
        status: Some(200),
        error: (next_state != NextState::Delivered).then(|| "no".to_owned()),
        response_excerpt: Some("ok".to_owned()),
    };
    CompletedAttempt { id: claimed.id.clone(), lease: claimed.lease, next_state, record }
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_a_dead_worker_are_reclaimed() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let id = create(&app).await;
    rename(&app, &id, 2).await;
    let other = create(&app).await;
    // The first worker claims two deliveries and dies.
    let lost = claim(&app, &stored).await;
    assert_eq!(lost.len(), 2);
    assert!(lost.iter().all(|claimed| claimed.id.version.get() == 1 && claimed.attempt == 1));

    let mut worker = worker(&app).await;
    assert_eq!(worker.drain().await.unwrap(), 0);
    app.clock.advance(LEASE - Duration::from_millis(1));
    assert_eq!(worker.drain().await.unwrap(), 0, "the lease has not expired");
    app.clock.advance(Duration::from_millis(1));
    assert_eq!(worker.drain().await.unwrap(), 4);
    let calls = receiver.take();
    let of = |id: &str| -> Vec<(i64, i32)> {
        let calls = calls.iter().filter(|call| call.session == id);
        calls.map(|call| (call.version, call.attempt)).collect()
    };
    assert_eq!(of(&id), [(1, 2), (2, 1), (3, 1)]);
    assert_eq!(of(&other), [(1, 2)]);
    let first = delivery_id(&id, 1, &stored);
    let recorded = attempts(&app, &first).await;
    assert_eq!(recorded.len(), 1, "the first worker recorded no attempt");
    assert_eq!(recorded[0].attempt, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_holds_between_servers_with_clocks_20_seconds_apart() {
    const APART: Duration = Duration::from_secs(20);
    for ahead in [[Duration::ZERO, APART], [APART, Duration::ZERO]] {
        let (app, receiver, stored) = spawn_subscribed().await;
        let [first, second] = ahead.map(|ahead| Clock::manual(app.clock.now() + ahead));
        let mut worker = worker_with_clock(&app, &second).await;
        create(&app).await;
        let claimed = claim_at(&app, &stored, first.now()).await;
        assert_eq!(claimed.len(), 1);
        // The second server does not send as long as the attempt of the first one can last.
        for clock in [&first, &second] {
            clock.advance(ATTEMPT);
        }
        assert_eq!(worker.drain().await.unwrap(), 0, "{ahead:?}");
        let done = [completed(&claimed[0], NextState::Delivered)];
        let finished = deliveries::complete(&mut connection(&app).await, &done, first.now()).await;
        assert_eq!(finished.unwrap(), 1);

        // The first server claims another one and dies.
        create(&app).await;
        assert_eq!(claim_at(&app, &stored, first.now()).await.len(), 1);
        second.advance(LEASE + APART);
        assert_eq!(worker.drain().await.unwrap(), 1, "{ahead:?}");
        assert_eq!(worker.drain().await.unwrap(), 0);
        assert_eq!(receiver.take().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_lease_cannot_finish_a_delivery() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let id = create(&app).await;
    rename(&app, &id, 1).await;
    let (first, second) = (delivery_id(&id, 1, &stored), delivery_id(&id, 2, &stored));
    let expired = claim(&app, &stored).await;
    app.clock.advance(LEASE);
    let current = claim(&app, &stored).await;
    assert_eq!((current[0].id.clone(), current[0].attempt), (first.clone(), 2));
    let now = app.clock.now();
    for next in [NextState::Delivered, NextState::Failed, NextState::RetryAt(now)] {
        let updated =
            deliveries::complete(&mut connection(&app).await, &[completed(&expired[0], next)], now)
                .await
                .unwrap();
        assert_eq!(updated, 0);
        let listed = find(&app, &first).await;
        assert_eq!((listed.state, listed.due_at), (DeliveryState::Leased, now + LEASE));
        assert_eq!(claim(&app, &stored).await.len(), 0, "the next version is not due");
    }
    assert_eq!(attempts(&app, &first).await.len(), 1, "the attempt is recorded");
    let delivered = [completed(&current[0], NextState::Delivered)];
    for updated in [1, 0] {
        let connection = &mut connection(&app).await;
        assert_eq!(deliveries::complete(connection, &delivered, now).await.unwrap(), updated);
    }
    assert_eq!(find(&app, &first).await.state, DeliveryState::Delivered);
    assert_eq!(worker(&app).await.drain().await.unwrap(), 1);
    assert_eq!(receiver.versions(), [2]);
    assert_eq!(find(&app, &second).await.state, DeliveryState::Delivered);
}

/// Expired leases of versions that wait for an earlier version must not hide due deliveries.
#[tokio::test(flavor = "multi_thread")]
async fn expired_leases_behind_replayed_versions_are_reclaimed() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(create(&app).await);
        rename(&app, ids.last().unwrap(), 1).await;
    }
    let mut worker = worker(&app).await;
    receiver.script(|call| if call.version == 1 { Reply::Ok } else { reply_with(500, "") });
    worker.drain().await.unwrap();
    app.clock.advance(Duration::from_secs(100));
    let lost = claim(&app, &stored).await;
    assert_eq!(lost.iter().map(|claimed| claimed.id.version.get()).collect::<Vec<_>>(), [2; 5]);
    // Meanwhile the first versions are replayed and fail, and a new session is created.
    for id in &ids {
        let id = Some(delivery_id(id, 1, &stored));
        let filter = DeliveryFilter { id, ..DeliveryFilter::default() };
        replay(&app.pool, &filter, app.clock.now()).await;
    }
    let now = app.clock.now();
    let replayed = claim(&app, &stored).await;
    assert_eq!(replayed.len(), 5);
    let later = now + Duration::from_secs(3_600);
    let failed: Vec<CompletedAttempt> =
        replayed.iter().map(|claimed| completed(claimed, NextState::RetryAt(later))).collect();
    deliveries::complete(&mut connection(&app).await, &failed, now).await.unwrap();
    app.clock.advance(LEASE + Duration::from_secs(1));
    let new = create(&app).await;
    // With one slot, a claim looks at four deliveries.
    let capacity = capacity(&stored, 1);
    let mut claimed = Vec::new();
    for _ in 0..5 {
        let now = app.clock.now();
        let claims = deliveries::claim(
            &mut connection(&app).await,
            std::slice::from_ref(&capacity),
            1,
            now,
            &Lease::new(now + LEASE),
        )
        .await;
        claimed.extend(claims.unwrap().claimed);
    }
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].id, delivery_id(&new, 1, &stored));
    // The later versions follow in order.
    deliveries::complete(
        &mut connection(&app).await,
        &[completed(&claimed[0], NextState::Delivered)],
        app.clock.now(),
    )
    .await
    .unwrap();
    receiver.recover();
    receiver.take();
    app.clock.advance(Duration::from_secs(3_600));
    worker.drain().await.unwrap();
    for id in ids {
        let calls = receiver.calls().into_iter().filter(|call| call.session == id);
        assert_eq!(calls.map(|call| call.version).collect::<Vec<_>>(), [1, 2]);
    }
}

/// A worker releases prefetched deliveries if it stops or the receiver hangs.
#[tokio::test(flavor = "multi_thread")]
async fn released_delivery_counts_no_attempt() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let id = create(&app).await;
    let claimed = claim(&app, &stored).await;
    let unsent: Vec<ReleasedDelivery> = claimed.into_iter().map(ReleasedDelivery::from).collect();
    let mut connection = connection(&app).await;
    deliveries::release(&mut connection, &unsent, app.clock.now()).await.unwrap();
    let again = claim(&app, &stored).await;
    assert_eq!((again.len(), again[0].attempt, again[0].attempt_in_round), (1, 1, 1));
    // The delivery has a new lease now, so this release has no effect.
    deliveries::release(&mut connection, &unsent, app.clock.now()).await.unwrap();
    assert_eq!(claim(&app, &stored).await.len(), 0);
    let unsent = ReleasedDelivery::from(again[0].clone());
    deliveries::release(&mut connection, &[unsent], app.clock.now()).await.unwrap();
    worker(&app).await.drain().await.unwrap();
    let recorded = attempts(&app, &delivery_id(&id, 1, &stored)).await;
    assert_eq!((receiver.take().len(), recorded.len(), recorded[0].attempt), (1, 1, 1));
}

/// The worker prefetches many deliveries for a fast receiver. All of them are released at its stop.
#[tokio::test(flavor = "multi_thread")]
async fn stopping_worker_releases_prefetched_deliveries() {
    let (app, receiver, _) = spawn_subscribed().await;
    for _ in 0..400 {
        create(&app).await;
    }
    let worker = worker_with(&app, |settings| settings.delivery.max_concurrency_per_app = 2).await;
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(worker.run(Arc::default(), async move { drop(stopping.await) }));
    while receiver.calls().len() < 50 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(stop);
    running.await.unwrap();
    assert_eq!(count(&app, DeliveryState::Leased).await, 0);
    let sent = receiver.calls().len();
    assert_eq!(count(&app, DeliveryState::Delivered).await, sent);
    assert_eq!(count(&app, DeliveryState::Pending).await, 400 - sent);
    let pending =
        DeliveryFilter { state: Some(DeliveryState::Pending), ..DeliveryFilter::default() };
    let listed = store::list_deliveries(&app, &pending).await;
    assert!(
        listed.iter().all(|delivery| delivery.attempts == 0),
        "an unsent delivery counts an attempt"
    );
}

/// A version is written during the completion of its predecessor, and another worker defers it at
/// the same moment. The completion does not make it due, so the deferral must be short.
#[tokio::test(flavor = "multi_thread")]
async fn delivery_written_during_a_completion_is_not_delayed() {
    let (app, _receiver, stored) = spawn_subscribed().await;
    let id = create(&app).await;
    let leased = claim(&app, &stored).await;
    let mut lock = store::lock_deliveries(&app).await;
    let (mut connection, now) = (connection(&app).await, app.clock.now());
    let delivered = [completed(&leased[0], NextState::Delivered)];
    let completing =
        tokio::spawn(async move { deliveries::complete(&mut connection, &delivered, now).await });
    // The statement has taken its snapshot before it waits for the lock.
    store::wait_for_blocked_statement(&mut store::connect(&app).await).await;
    rename(&app, &id, 1).await;
    assert_eq!(claim(&app, &stored).await.len(), 0);
    store::unlock(&mut lock).await;
    assert_eq!(completing.await.unwrap().unwrap(), 1);

    assert_eq!(claim(&app, &stored).await.len(), 0, "the new version is still deferred");
    app.clock.advance(Duration::from_millis(5_001));
    let claimed = claim(&app, &stored).await;
    assert_eq!(claimed[0].id, delivery_id(&id, 2, &stored));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_never_send_the_same_delivery() {
    let (app, receiver, _) = spawn_subscribed().await;
    let second = super::Receiver::start().await;
    subscribe(&app, &second).await;
    for _ in 0..40 {
        let id = create(&app).await;
        rename(&app, &id, 4).await;
    }
    for receiver in [&receiver, &second] {
        receiver.script(|_| if rand::random_bool(0.2) { reply_with(500, "") } else { Reply::Ok });
    }
    let mut workers = Vec::new();
    for _ in 0..3 {
        let retry_soon = |settings: &mut Settings| {
            settings.delivery.retry_schedule = vec![Duration::from_secs(5)];
        };
        workers.push(worker_with(&app, retry_soon).await);
    }
    let mut attempts = 0;
    for _ in 0..200 {
        let round = workers.into_iter().map(|mut worker| {
            tokio::spawn(async move {
                let attempts = worker.drain().await.unwrap();
                (worker, attempts)
            })
        });
        let round: Vec<_> = round.collect();
        workers = Vec::new();
        for handle in round {
            let (worker, more) = handle.await.unwrap();
            workers.push(worker);
            attempts += more;
        }
        if count(&app, DeliveryState::Delivered).await == 400 {
            break;
        }
        app.clock.advance(Duration::from_secs(7));
    }
    assert_eq!(count(&app, DeliveryState::Delivered).await, 400);
    for receiver in [receiver, second] {
        let calls = receiver.calls();
        let failures = calls.iter().filter(|call| !call.acknowledged).count();
        assert_eq!(calls.len(), 200 + failures);
        attempts -= calls.len();
        let mut versions: HashMap<&str, Vec<i64>> = HashMap::new();
        for call in calls.iter().filter(|call| call.acknowledged) {
            versions.entry(&call.session).or_default().push(call.version);
        }
        assert!(versions.values().all(|versions| *versions == [1, 2, 3, 4, 5]), "{versions:?}");
    }
    assert_eq!(attempts, 0, "every attempt arrived");
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_and_claim_do_not_deadlock() {
    let (app, receiver, _) = spawn_subscribed().await;
    for _ in 0..60 {
        let id = create(&app).await;
        rename(&app, &id, 2).await;
    }
    let mut workers = Vec::new();
    for _ in 0..2 {
        let mut worker = worker(&app).await;
        workers.push(tokio::spawn(async move {
            let mut attempts = 0;
            for _ in 0..40 {
                attempts += worker.drain().await.unwrap();
            }
            attempts
        }));
    }
    let mut replayed = 0;
    for _ in 0..40 {
        let now = app.clock.now();
        let filter = DeliveryFilter::default();
        replayed += replay(&app.pool, &filter, now).await;
    }
    let mut attempts = 0;
    for worker in workers {
        attempts += worker.await.unwrap();
    }
    // A replay at the moment of a claim may leave a delivery deferred for some seconds.
    app.clock.advance(Duration::from_secs(6));
    attempts += worker(&app).await.drain().await.unwrap();
    assert_eq!(count(&app, DeliveryState::Delivered).await, 180);
    assert_eq!(receiver.calls().len(), attempts);
    assert!(replayed > 180 && attempts > 180, "{replayed} replayed, {attempts} attempts");
    let mut outside = store::connect(&app).await;
    app.shutdown_signal.stop();
    app.pool.close().await;
    assert_eq!(store::count_deadlocks(&mut outside).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_claim_can_be_claimed_again_at_once() {
    let (app, _receiver, stored) = spawn_subscribed().await;
    for _ in 0..3 {
        create(&app).await;
    }
    let now = app.clock.now();
    let capacity = capacity(&stored, 2);
    let claim = async |lease: &Lease| {
        let capacities = std::slice::from_ref(&capacity);
        let connection = &mut connection(&app).await;
        deliveries::claim(connection, capacities, 2, now, lease).await.unwrap().claimed
    };
    let [lost, active] = [(); 2].map(|()| Lease::new(now + LEASE));
    assert_eq!(claim(&lost).await.len(), 2);
    assert_eq!(claim(&active).await.len(), 1);
    deliveries::release_lost_leases(&mut connection(&app).await, &[lost], now).await.unwrap();
    let again = claim(&Lease::new(now + LEASE)).await;
    assert_eq!(again.len(), 2, "the delivery of the other claim stays leased");
    assert!(again.iter().all(|claimed| claimed.attempt == 1), "{again:?}");
}
