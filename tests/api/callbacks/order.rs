//! The order of versions, and who waits for whom.

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

/// How long a receiver hangs, and a worker waits for it: longer than any test.
const HANG_TIMEOUT: Duration = Duration::from_secs(3_600);

/// The versions of each session to each app, in the order in which they were acknowledged.
fn acknowledged(calls: &[Call]) -> HashMap<(String, String), Vec<i64>> {
    let mut told: HashMap<(String, String), Vec<i64>> = HashMap::new();
    for call in calls.iter().filter(|call| call.acknowledged) {
        told.entry((call.app_id.clone(), call.session.clone())).or_default().push(call.version);
    }
    told
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
    let told = acknowledged(&receiver.calls());
    assert_eq!(told[&key(&first, &stuck)], [1]);
    for key in [key(&first, &free), key(&second, &stuck), key(&second, &free)] {
        assert_eq!(told[&key], [1, 2, 3, 4, 5]);
    }
    // It stays so, whatever happens meanwhile.
    for _ in 0..3 {
        app.clock.advance(Duration::from_secs(40));
        rename(&app, &stuck, 1).await;
        rename(&app, &free, 1).await;
        worker.drain().await.unwrap();
    }
    let told = acknowledged(&receiver.calls());
    assert_eq!(told[&key(&first, &stuck)], [1]);
    assert_eq!(told[&key(&first, &free)], [1, 2, 3, 4, 5, 6, 7, 8]);

    receiver.recover();
    app.clock.advance(Duration::from_secs(3_600));
    worker.drain().await.unwrap();
    let told = acknowledged(&receiver.calls());
    assert_eq!(told.len(), 4);
    assert!(told.values().all(|versions| *versions == [1, 2, 3, 4, 5, 6, 7, 8]), "{told:?}");
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
    // None of the first six is answered before all six are there.
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
    assert_eq!(receiver.connections(), 6, "as many as there are places, all kept");
    let calls = receiver.calls();
    let at_once: HashSet<_> = calls[..6].iter().map(|call| &call.session).collect();
    assert_eq!(at_once.len(), 6, "{at_once:?}");
    let told = acknowledged(&calls);
    assert_eq!(told.len(), 12);
    assert!(told.values().all(|versions| *versions == [1, 2, 3]), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_receiver_does_not_delay_others() {
    let (app, hanging, _) = spawn_subscribed().await;
    // More apps that hang than there are places for.
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
    // All of them arrive long before the attempts that hang end.
    wait_for("all arrive", PATIENCE, async || sound.calls().len() == 40).await;
    assert!(hanging.calls().len() >= 4, "{} hang", hanging.calls().len());
    working.abort();
}

/// However many hang: what they hold counts for a second, not until they give up.
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
    wait_for("it arrives", PATIENCE, async || !sound.calls().is_empty()).await;
    working.abort();
}

/// How many rows of deliveries were read, by workers that are no more: a connection tells that when
/// it ends.
async fn reads(app: &TestApp) -> i64 {
    wait_for("the workers' connections end", PATIENCE, async || {
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

/// A worker of a new database plans its statements while there is nothing. What comes then, before
/// statistics do, must not be read as a whole to find each.
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

/// A new version of a session with a long past must not read all of it.
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
    // And many sessions wait.
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
        // Most of them stand behind others.
        rename(&app, &id, 8).await;
        worker.drain().await.unwrap();
    }
    assert_eq!(receiver.versions()[1..], (30_001..=30_040).collect::<Vec<_>>());
    drop(worker);
    let read = reads(&app).await - before;
    println!("{read} rows were read for 40 deliveries");
    assert!(read < 2_000, "{read} rows were read for 40 deliveries");
}
