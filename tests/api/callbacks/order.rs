//! The order of versions, and the independence of sessions and receivers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use muster::domain::DeliveryState;

use super::process::wait_for;
use super::receiver::{Call, Receiver, Reply, reply_with};
use super::{count, create, rename, spawn_subscribed, subscribe, worker, worker_with};
use crate::harness::process::WAIT_TIMEOUT;
use crate::harness::store::{self, StoredApp};

/// The delay of a hanging receiver and the timeout of its worker, longer than any test.
const HANG_TIMEOUT: Duration = Duration::from_secs(3_600);

/// The versions of each session for each app, in the order of their acknowledgement.
fn acknowledged(calls: &[Call]) -> HashMap<(String, String), Vec<i64>> {
    let mut by_session: HashMap<(String, String), Vec<i64>> = HashMap::new();
    for call in calls.iter().filter(|call| call.acknowledged) {
        by_session
            .entry((call.app_id.clone(), call.session.clone()))
            .or_default()
            .push(call.version);
    }
    by_session
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_arrive_in_order_per_session() {
    let (app, receiver, first) = spawn_subscribed().await;
    let second = subscribe(&app, &receiver).await;
    let (blocked, unblocked) = (create(&app).await, create(&app).await);
    rename(&app, &blocked, 4).await;
    rename(&app, &unblocked, 4).await;
    // The first app refuses version 2 of one session.
    let (session, app_id) = (blocked.clone(), first.app.app_id.to_string());
    receiver.script(move |call| {
        let refused = call.app_id == app_id && call.session == session && call.version == 2;
        if refused { reply_with(500, "") } else { Reply::Ok }
    });
    let mut worker = worker(&app).await;
    worker.drain().await.unwrap();
    let key = |stored: &StoredApp, id: &String| (stored.app.app_id.to_string(), id.clone());
    let by_session = acknowledged(&receiver.calls());
    assert_eq!(by_session[&key(&first, &blocked)], [1]);
    for key in [key(&first, &unblocked), key(&second, &blocked), key(&second, &unblocked)] {
        assert_eq!(by_session[&key], [1, 2, 3, 4, 5]);
    }
    // Retries and new versions do not change the result.
    for _ in 0..3 {
        app.clock.advance(Duration::from_secs(40));
        rename(&app, &blocked, 1).await;
        rename(&app, &unblocked, 1).await;
        worker.drain().await.unwrap();
    }
    let by_session = acknowledged(&receiver.calls());
    assert_eq!(by_session[&key(&first, &blocked)], [1]);
    assert_eq!(by_session[&key(&first, &unblocked)], [1, 2, 3, 4, 5, 6, 7, 8]);

    receiver.recover();
    app.clock.advance(Duration::from_secs(3_600));
    worker.drain().await.unwrap();
    let by_session = acknowledged(&receiver.calls());
    assert_eq!(by_session.len(), 4);
    assert!(
        by_session.values().all(|versions| *versions == [1, 2, 3, 4, 5, 6, 7, 8]),
        "{by_session:?}"
    );
    assert_eq!(count(&app, DeliveryState::Delivered).await, 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_sequential_per_session_and_concurrent_overall() {
    let (app, receiver, _) = spawn_subscribed().await;
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(create(&app).await);
        rename(&app, ids.last().unwrap(), 2).await;
    }
    // The receiver answers the first six requests only after all six have arrived.
    let mut first = 6;
    receiver.script(move |_| match first {
        0 => Reply::Ok,
        _ => {
            first -= 1;
            Reply::Barrier(6, Box::new(Reply::Ok))
        }
    });
    let attempts = worker_with(&app, |settings| {
        settings.delivery.max_concurrency_per_app = 6;
        settings.delivery.attempt_timeout = WAIT_TIMEOUT;
    })
    .await
    .drain()
    .await
    .unwrap();
    assert_eq!(attempts, 36);
    assert_eq!(receiver.connections(), 6, "one connection for each slot, all kept alive");
    let calls = receiver.calls();
    let concurrent: HashSet<_> = calls[..6].iter().map(|call| &call.session).collect();
    assert_eq!(concurrent.len(), 6, "{concurrent:?}");
    let by_session = acknowledged(&calls);
    assert_eq!(by_session.len(), 12);
    assert!(by_session.values().all(|versions| *versions == [1, 2, 3]), "{by_session:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_receiver_does_not_delay_others() {
    let (app, hanging, _) = spawn_subscribed().await;
    // The hanging apps together could use more slots than the worker has.
    for _ in 0..3 {
        subscribe(&app, &hanging).await;
    }
    let responsive = Receiver::start().await;
    subscribe(&app, &responsive).await;
    for _ in 0..20 {
        let id = create(&app).await;
        rename(&app, &id, 1).await;
    }
    hanging.script(|_| Reply::Late(HANG_TIMEOUT, Box::new(Reply::Ok)));
    let mut worker = worker_with(&app, |settings| {
        settings.delivery.attempt_timeout = HANG_TIMEOUT;
        settings.delivery.max_concurrency = 8;
        settings.delivery.max_concurrency_per_app = 4;
    })
    .await;
    let running = tokio::spawn(async move { worker.drain().await.unwrap() });
    // All callbacks to the other receiver arrive long before the hanging attempts end.
    wait_for("all callbacks", WAIT_TIMEOUT, async || responsive.calls().len() == 40).await;
    assert!(hanging.calls().len() >= 4, "{} hang", hanging.calls().len());
    running.abort();
}

/// A hanging attempt occupies its slot for one second only, not until its timeout.
#[tokio::test(flavor = "multi_thread")]
async fn many_hanging_receivers_delay_others_only_briefly() {
    let (app, hanging, _) = spawn_subscribed().await;
    for _ in 0..11 {
        subscribe(&app, &hanging).await;
    }
    let responsive = Receiver::start().await;
    subscribe(&app, &responsive).await;
    create(&app).await;
    hanging.script(|_| Reply::Late(HANG_TIMEOUT, Box::new(Reply::Ok)));
    let worker = worker_with(&app, |settings| {
        settings.delivery.attempt_timeout = HANG_TIMEOUT;
        settings.delivery.max_concurrency = 4;
        settings.delivery.max_concurrency_per_app = 4;
    })
    .await;
    let running =
        tokio::spawn(async move { worker.run(Arc::default(), std::future::pending()).await });
    wait_for("a callback", WAIT_TIMEOUT, async || !responsive.calls().is_empty()).await;
    running.abort();
}

/// A worker on a new database plans its statements while the table is empty. That plan must not
/// read the whole table for each claim after the table has rows but no statistics yet.
#[tokio::test(flavor = "multi_thread")]
async fn claim_plan_made_on_an_empty_table_stays_fast() {
    const DELIVERIES: i64 = 2_000;
    let (app, receiver, stored) = spawn_subscribed().await;
    store::disable_delivery_statistics(&app).await;
    let mut worker = worker(&app).await;
    assert_eq!(worker.drain().await.unwrap(), 0);
    store::insert_due_deliveries(&app, &stored, DELIVERIES).await;
    let count = usize::try_from(DELIVERIES).unwrap();
    assert_eq!(worker.drain().await.unwrap(), count);
    assert_eq!(receiver.versions(), vec![1; count]);
    drop(worker);
    let read = store::delivery_rows_read(&app).await;
    println!("{read} rows were read for {DELIVERIES} deliveries");
    assert!(read < 20 * DELIVERIES, "{read} rows were read for {DELIVERIES} deliveries");
}

/// A claim must not read the whole history of a session with many versions.
#[tokio::test(flavor = "multi_thread")]
async fn long_history_does_not_slow_claims() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let id = create(&app).await;
    worker(&app).await.drain().await.unwrap();
    store::insert_delivered_versions(&app, &stored, &id, 30_000).await;
    // Many other sessions have a pending delivery.
    store::insert_later_deliveries(&app, &stored, 20_000).await;
    store::renumber_versions(&app, 30_000).await;
    store::analyze_deliveries(&app).await;
    let before = store::delivery_rows_read(&app).await;
    let mut worker = worker(&app).await;
    for _ in 0..5 {
        // Most of these versions wait for an earlier one.
        rename(&app, &id, 8).await;
        worker.drain().await.unwrap();
    }
    assert_eq!(receiver.versions()[1..], (30_001..=30_040).collect::<Vec<_>>());
    drop(worker);
    let read = store::delivery_rows_read(&app).await - before;
    println!("{read} rows were read for 40 deliveries");
    assert!(read < 2_000, "{read} rows were read for 40 deliveries");
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_columns_interrupt_no_claim() {
    let (app, receiver, _) = spawn_subscribed().await;
    let id = create(&app).await;
    let mut worker = worker(&app).await;
    assert_eq!(worker.drain().await.unwrap(), 1);
    let mut sent = 1;
    for column in ["title", "operator", "owner"] {
        for to in ["varchar(500)", "text"] {
            store::alter_text_column(&app, "session_event", column, to).await;
            rename(&app, &id, 1).await;
            assert_eq!(worker.drain().await.unwrap(), 1, "{column} {to}");
            sent += 1;
        }
    }
    assert_eq!(receiver.calls().len(), sent);
}
