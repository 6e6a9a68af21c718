//! The permits of the connection pool: no fault and no caller that disconnects may lose one.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use muster::repository::connections::pool::{self, PoolLimits};

use crate::harness::proxy::Proxy;
use crate::harness::server::database;
use crate::harness::store::{self, PgConnectOptions, Pool};
use crate::harness::wait_until;

const CONNECTIONS: u32 = 3;
const SHORT: Duration = Duration::from_millis(200);

fn connect(options: PgConnectOptions, statement_timeout: Duration) -> Pool {
    let limits = PoolLimits {
        max_connections: CONNECTIONS,
        acquire_timeout: Duration::from_secs(60),
        statement_timeout,
    };
    pool::connect(options, limits)
}

/// takes all connections at once, so none is lost.
async fn has_all_connections(pool: &Pool) {
    wait_until("the end of all statements", async || pool.in_use() == 0).await;
    let mut taken = Vec::new();
    for _ in 0..CONNECTIONS {
        taken.push(pool.acquire().await.unwrap());
    }
    assert_eq!(pool.in_use(), CONNECTIONS as usize);
}

/// The number of stalls: 50 in the long form.
fn stalls() -> usize {
    if std::env::var("MUSTER_TEST_FAULTS").is_ok_and(|how| how == "long") { 50 } else { 3 }
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_connections_release_their_permits() {
    let database = database().await;
    let proxy = Proxy::on_unix_socket(&database.options);
    let pool = connect(proxy.options_through(database.options.clone()), SHORT);
    for stall in 0..stalls() {
        store::select_one(&pool).await.unwrap();
        proxy.stall();
        let statements = (0..2 * CONNECTIONS).map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { store::select_one(&pool).await })
        });
        let statements: Vec<_> = statements.collect();
        wait_until("connections that are taken", async || pool.in_use() == CONNECTIONS as usize)
            .await;
        // Half of the callers disconnect, and half wait for the end.
        statements.iter().step_by(2).for_each(|statement| statement.abort());
        proxy.resume();
        for statement in statements {
            // The stall may have interrupted this one.
            let _ = statement.await;
        }
        let after = store::select_one(&pool).await;
        assert!(after.is_ok(), "after stall {stall}: {after:?}");
    }
    has_all_connections(&pool).await;
}

#[tokio::test]
async fn caller_that_goes_away_keeps_no_connection() {
    let database = database().await;
    let pool = connect(database.options.clone(), SHORT);
    // A future is dropped after any number of steps.
    for steps in 0..40 {
        let mut statement = pin!(store::select_one(&pool));
        let mut begin = pin!(pool.begin());
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..steps {
            let done = statement.as_mut().poll(&mut context).is_ready()
                || begin.as_mut().poll(&mut context).is_ready();
            if done {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    has_all_connections(&pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_goes_on_without_its_caller() {
    let database = database().await;
    let pool = connect(database.options.clone(), Duration::from_secs(600));
    store::select_one(&pool).await.unwrap();
    assert_eq!((pool.idle(), pool.in_use()), (1, 0));
    let mut connection = store::connect_to(&database).await;
    store::begin(&mut connection).await;
    store::lock_apps(&mut connection).await;
    let blocked = pool.clone();
    let caller = tokio::spawn(async move { store::count_apps(&blocked).await });
    store::wait_for_blocked_statement(&mut store::connect_to(&database).await).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    assert_eq!((pool.idle(), pool.in_use()), (0, 1), "the statement still has its connection");
    store::close(connection).await.unwrap();
    wait_until("the end of the statement", async || pool.in_use() == 0).await;
    assert_eq!(pool.idle(), 1, "the connection is still good");
}

#[tokio::test]
async fn dropped_transaction_releases_its_locks() {
    let database = database().await;
    let pool = connect(database.options.clone(), SHORT);
    for _ in 0..2 * CONNECTIONS {
        let mut transaction = pool.begin().await.unwrap();
        store::lock_apps(&mut transaction).await;
        drop(transaction);
    }
    // Another transaction gets the lock as soon as PostgreSQL has seen the end of the last one.
    wait_until("the lock", async || {
        let mut transaction = pool.begin().await.unwrap();
        store::try_lock_apps(&mut transaction).await && transaction.commit().await.is_ok()
    })
    .await;
    has_all_connections(&pool).await;
}

#[tokio::test]
async fn closed_pool_refuses() {
    let database = database().await;
    let pool = connect(database.options.clone(), SHORT);
    let taken = pool.acquire().await.unwrap();
    pool.close().await;
    let refusal = store::select_one(&pool).await.unwrap_err().to_string();
    assert!(refusal.contains("closed pool"), "{refusal}");
    drop(taken);
    assert_eq!((pool.idle(), pool.in_use()), (0, 0));
}
