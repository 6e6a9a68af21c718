//! The order of versions, and the independence of sessions and receivers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use muster::domain::DeliveryState;

use super::process::wait_for;
use super::receiver::{Call, Receiver, Reply, reply_with};
use super::{count, create, rename, spawn_subscribed, subscribe, worker, worker_with};
use crate::harness::TestApp;
use crate::harness::process::PATIENCE;
use crate::harness::store::StoredApp;

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
    let (stuck, free) = (create(&app).await, create(&app).await);
    rename(&app, &stuck, 4).await;
    rename(&app, &free, 4).await;
    // The first app refuses version 2 of one session.
    let (session, app_id) = (stuck.clone(), first.app.app_id.to_string());
    receiver.script(move |call| {
        let refused = call.app_id == app_id && call.session == session && call.version == 2;
        if refused { reply_with(500, "") } else { Reply::Ok }
    });
    let mut worker = worker(&app).await;
    worker.drain().await.unwrap();
    let key = |stored: &StoredApp, id: &String| (stored.app.app_id.to_string(), id.clone());
    let by_session = acknowledged(&receiver.calls());
    assert_eq!(by_session[&key(&first, &stuck)], [1]);
    for key in [key(&first, &free), key(&second, &stuck), key(&second, &free)] {
        assert_eq!(by_session[&key], [1, 2, 3, 4, 5]);
    }
    // Retries and new versions do not change the result.
    for _ in 0..3 {
        app.clock.advance(Duration::from_secs(40));
        rename(&app, &stuck, 1).await;
        rename(&app, &free, 1).await;
        worker.drain().await.unwrap();
    }
    let by_session = acknowledged(&receiver.calls());
    assert_eq!(by_session[&key(&first, &stuck)], [1]);
    assert_eq!(by_session[&key(&first, &free)], [1, 2, 3, 4, 5, 6, 7, 8]);

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
    let tries = worker_with(&app, |settings| {
        settings.delivery.max_concurrency_per_app = 6;
        settings.delivery.attempt_timeout = PATIENCE;
    })
    .await
    .drain()
    .await
    .unwrap();
    assert_eq!(tries, 36);
    assert_eq!(receiver.connections(), 6, "one connection for each slot, all kept alive");
    let calls = receiver.calls();
    let at_once: HashSet<_> = calls[..6].iter().map(|call| &call.session).collect();
    assert_eq!(at_once.len(), 6, "{at_once:?}");
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
    let sound = Receiver::start().await;
    subscribe(&app, &sound).await;
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
    let working = tokio::spawn(async move { worker.drain().await.unwrap() });
    // All callbacks to the other receiver arrive long before the hanging attempts end.
    wait_for("all callbacks", PATIENCE, async || sound.calls().len() == 40).await;
    assert!(hanging.calls().len() >= 4, "{} hang", hanging.calls().len());
    working.abort();
}

/// A hanging attempt occupies its slot for one second only, not until its timeout.
#[tokio::test(flavor = "multi_thread")]
async fn many_hanging_receivers_delay_others_only_briefly() {
    let (app, hanging, _) = spawn_subscribed().await;
    for _ in 0..11 {
        subscribe(&app, &hanging).await;
    }
    let sound = Receiver::start().await;
    subscribe(&app, &sound).await;
    create(&app).await;
    hanging.script(|_| Reply::Late(HANG_TIMEOUT, Box::new(Reply::Ok)));
    let worker = worker_with(&app, |settings| {
        settings.delivery.attempt_timeout = HANG_TIMEOUT;
        settings.delivery.max_concurrency = 4;
        settings.delivery.max_concurrency_per_app = 4;
    })
    .await;
    let working =
        tokio::spawn(async move { worker.run(Arc::default(), std::future::pending()).await });
    wait_for("a callback", PATIENCE, async || !sound.calls().is_empty()).await;
    working.abort();
}

/// The number of rows of `delivery` that ended workers have read. PostgreSQL counts the rows of a
/// connection when the connection ends.
async fn reads(app: &TestApp) -> i64 {
    wait_for("the end of the workers' connections", PATIENCE, async || {
        let others = "select count(*) from pg_stat_activity where datname = current_database()
                      and query similar to '%(with room|into delivery_attempt)%'
                      and query not like '%pg_stat_activity%'";
        sqlx::query_scalar::<_, i64>(others).fetch_one(&app.pool).await.unwrap() == 0
    })
    .await;
    let reads = "select (coalesce(idx_tup_fetch, 0) + seq_tup_read)::bigint
                 from pg_stat_user_tables where relname = 'delivery'";
    sqlx::query_scalar(reads).fetch_one(&app.pool).await.unwrap()
}

/// A worker on a new database plans its statements while the table is empty. That plan must not
/// read the whole table for each claim after the table has rows but no statistics yet.
#[tokio::test(flavor = "multi_thread")]
async fn claim_plan_made_on_an_empty_table_stays_fast() {
    const MANY: i64 = 2_000;
    let (app, receiver, stored) = spawn_subscribed().await;
    let quiet = "alter table delivery set (autovacuum_enabled = false)";
    sqlx::raw_sql(quiet).execute(&app.pool).await.unwrap();
    let mut worker = worker(&app).await;
    assert_eq!(worker.drain().await.unwrap(), 0);
    let fill = "with event as (
                    insert into session_event (session_id, buin, version, kind, operator, app_id,
                                               title, owner, changes, created_at)
                    select md5(number::text)::uuid, $1, 1, 'created', 'a', $2, 't', 'a',
                           '{\"title\": \"t\", \"owner\": \"a\", \"member\": [\"a\"]}', now()
                    from generate_series(1, $3) as number
                    returning session_id
                )
                insert into delivery (session_id, buin, app_id, version, state, due_at, attempts,
                                      tries, created_at)
                select session_id, $1, $2, 1, 'pending', $4, 0, 0, $4 from event";
    let fill = sqlx::query(fill).bind(stored.app.buin.get()).bind(stored.app.app_id.as_str());
    fill.bind(MANY).bind(app.clock.now()).execute(&app.pool).await.unwrap();
    let many = usize::try_from(MANY).unwrap();
    assert_eq!(worker.drain().await.unwrap(), many);
    assert_eq!(receiver.versions(), vec![1; many]);
    drop(worker);
    let read = reads(&app).await;
    println!("{read} rows were read for {MANY} deliveries");
    assert!(read < 20 * MANY, "{read} rows were read for {MANY} deliveries");
}

/// A claim must not read the whole history of a session with many versions.
#[tokio::test(flavor = "multi_thread")]
async fn long_history_does_not_slow_claims() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let id = create(&app).await;
    worker(&app).await.drain().await.unwrap();
    let session: muster::domain::SessionId = id.parse().unwrap();
    let fill = "insert into delivery (session_id, buin, app_id, version, state, due_at, attempts,
                                      tries, created_at, finished_at)
                select $1, $2, $3, version, 'delivered', now(), 1, 1, now(), now()
                from generate_series(2, 30000) as version";
    let fill = sqlx::query(fill).bind(session.uuid()).bind(stored.app.buin.get());
    fill.bind(stored.app.app_id.as_str()).execute(&app.pool).await.unwrap();
    // Many other sessions have a pending delivery.
    let fill = "insert into delivery (session_id, buin, app_id, version, state, due_at, attempts,
                                      tries, created_at)
                select md5(number::text)::uuid, $1, $2, 1, 'pending', now(), 1, 1, now()
                from generate_series(1, 20000) as number";
    let fill = sqlx::query(fill).bind(stored.app.buin.get()).bind(stored.app.app_id.as_str());
    fill.execute(&app.pool).await.unwrap();
    for table in ["session", "session_event"] {
        let jump = format!("update {table} set version = 30000");
        sqlx::raw_sql(sqlx::AssertSqlSafe(jump)).execute(&app.pool).await.unwrap();
    }
    sqlx::raw_sql("vacuum analyze delivery").execute(&app.pool).await.unwrap();
    let before = reads(&app).await;
    let mut worker = worker(&app).await;
    for _ in 0..5 {
        // Most of these versions wait for an earlier one.
        rename(&app, &id, 8).await;
        worker.drain().await.unwrap();
    }
    assert_eq!(receiver.versions()[1..], (30_001..=30_040).collect::<Vec<_>>());
    drop(worker);
    let read = reads(&app).await - before;
    println!("{read} rows were read for 40 deliveries");
    assert!(read < 2_000, "{read} rows were read for 40 deliveries");
}
