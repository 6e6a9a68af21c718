//! The server that numbers changes fails, and another one takes its place.

use muster::domain::Permission;
use rustix::process::Signal;

use super::complete_feed;
use crate::harness::process::{Home, PlainClient, Server};
use crate::harness::server::{Database, database};
use crate::harness::store::{self, Pool};
use crate::harness::{self, BUIN, new_app, register, wait_until};

/// Two servers on one database, of which the first numbers changes.
struct Pair {
    leader: Server,
    standby: Server,
    /// The process of PostgreSQL that serves the leader.
    leader_backend: i32,
    pool: Pool,
    api_key: String,
    _home: Home,
    _database: Database,
}

impl Pair {
    async fn start() -> Self {
        let database = database().await;
        let pool = harness::connect(&database, &harness::settings());
        let app = new_app(BUIN, &[Permission::SessionsRead, Permission::SessionsWrite]);
        let api_key = register(&pool, &app).await;
        let home = Home::for_database(&database);
        let leader = home.serve();
        let leader_backend = new_sequencer(&pool, None).await;
        let standby = home.serve();
        Self { leader, standby, leader_backend, pool, api_key, _home: home, _database: database }
    }

    fn client(&self, server: &Server) -> PlainClient {
        server.plain_client(&self.api_key)
    }
}

/// The process of the server that numbers changes, as soon as it is another one than `before`.
async fn new_sequencer(pool: &Pool, before: Option<i32>) -> i32 {
    let mut found = None;
    wait_until("a server that numbers changes", async || {
        found = store::sequencer(pool).await.filter(|pid| Some(*pid) != before);
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// Creates sessions until one of them is numbered, and returns the number of sessions.
async fn create_until_numbered(pair: &Pair, client: &PlainClient) -> usize {
    let before = store::feed_rows(&pair.pool).await.len();
    let mut created = 0;
    wait_until("a number for a new change", async || {
        client.create().await;
        created += 1;
        store::feed_rows(&pair.pool).await.len() > before
    })
    .await;
    created
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_leader_is_replaced() {
    let pair = Pair::start().await;
    let mut expected = create_until_numbered(&pair, &pair.client(&pair.leader)).await;
    let client = pair.client(&pair.standby);
    pair.leader.running.signal(Signal::KILL);
    expected += create_until_numbered(&pair, &client).await;
    assert_eq!(complete_feed(&pair.pool).await.len(), expected);
    new_sequencer(&pair.pool, Some(pair.leader_backend)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_that_lost_its_connection_is_replaced() {
    let pair = Pair::start().await;
    let client = pair.client(&pair.leader);
    let mut expected = create_until_numbered(&pair, &client).await;
    store::end_backend(&pair.pool, pair.leader_backend).await;
    expected += create_until_numbered(&pair, &client).await;
    assert_eq!(complete_feed(&pair.pool).await.len(), expected);
    new_sequencer(&pair.pool, Some(pair.leader_backend)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_leader_is_replaced_and_writes_nothing_when_it_wakes_up() {
    let pair = Pair::start().await;
    let leader = pair.client(&pair.leader);
    let mut expected = create_until_numbered(&pair, &leader).await;
    pair.leader.running.signal(Signal::STOP);
    // PostgreSQL still has the session and its lock.
    expected += create_until_numbered(&pair, &pair.client(&pair.standby)).await;
    let successor = new_sequencer(&pair.pool, Some(pair.leader_backend)).await;

    pair.leader.running.signal(Signal::CONT);
    for client in [&leader, &pair.client(&pair.standby)] {
        for _ in 0..20 {
            client.create().await;
            expected += 1;
        }
    }
    assert_eq!(complete_feed(&pair.pool).await.len(), expected);
    assert_eq!(store::sequencer(&pair.pool).await, Some(successor));
}
