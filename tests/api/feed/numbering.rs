//! The numbers of changes that several servers make at the same time.

use std::collections::BTreeSet;

use muster::domain::Permission;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::complete_feed;
use crate::harness::client::Client;
use crate::harness::server::database;
use crate::harness::{BUIN, settings, spawn, spawn_app, store};

const OTHER_BUIN: i64 = BUIN + 1;
const WRITERS: u64 = 8;
const CHANGES: usize = 40;
const ACCOUNTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Creates sessions and changes its own and shared ones at random. A rejected change is allowed.
async fn write(client: Client, seed: u64, shared: Vec<String>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let token = client.token().await;
    let mut ids = shared;
    for number in 0..CHANGES {
        let (mut accounts, title) = (ACCOUNTS.to_vec(), format!("{seed} {number}"));
        if rng.random_bool(0.2) {
            accounts.truncate(rng.random_range(3..=6));
            let new = json!({ "title": title, "creator": accounts[0], "member": accounts });
            let created = client.post_sealed(&token, "/cgi/session/create", &new).await;
            ids.push(created["sessionId"].as_str().unwrap().to_owned());
            continue;
        }
        let id = ids.choose(&mut rng).unwrap();
        let session = client.get_session(&token, id).await;
        let account = *ACCOUNTS.choose(&mut rng).unwrap();
        let change = match rng.random_range(0..4) {
            0 => json!({ "title": title }),
            1 => json!({ "addMember": [account] }),
            2 => json!({ "delMember": [account] }),
            _ => json!({ "owner": account }),
        };
        let mut body = json!({ "sessionId": id, "opUser": session["owner"] });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        client.post_sealed(&token, "/cgi/session/update", &body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_two_servers_has_one_number() {
    let app = spawn_app().await;
    let (address, _shutdown_signal) = app.another_instance().await;
    let permissions = [Permission::SessionsRead, Permission::SessionsWrite];
    let (other_enterprise, _) = app.another_app(OTHER_BUIN, &permissions).await;
    let mut tasks = Vec::new();
    for client in [&app.client, &other_enterprise] {
        let token = client.token().await;
        let new = json!({ "title": "shared", "creator": "a", "member": ACCOUNTS });
        let mut shared: Vec<String> = Vec::new();
        for _ in 0..2 {
            let created: Value = client.post_sealed(&token, "/cgi/session/create", &new).await;
            shared.push(created["sessionId"].as_str().unwrap().to_owned());
        }
        for seed in 0..WRITERS {
            let client = if seed % 2 == 0 { client.clone() } else { client.at(address) };
            tasks.push(tokio::spawn(write(client, seed, shared.clone())));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    let rows = complete_feed(&app.pool).await;
    let enterprises: BTreeSet<i64> = rows.iter().map(|row| row.buin).collect();
    assert_eq!(enterprises, BTreeSet::from([BUIN, OTHER_BUIN]));
    assert!(rows.len() > 200, "{}", rows.len());
    assert_eq!(store::unlisted_role_changes(&app.pool).await, Vec::<String>::new());
}

/// Benchmarks measure the cost of the feed.
#[tokio::test(flavor = "multi_thread")]
async fn feed_is_switched_off_for_a_database() {
    let database = database().await;
    store::switch_off_feed(&database).await;
    let app = spawn(settings(), database, |options| options).await;
    for _ in 0..20 {
        let session = app.session(&["a", "b", "c"]).await;
        app.change(&session, "a", json!({ "title": "after" })).await;
    }
    assert_eq!(store::count_waiting(&app.pool).await, 0);
    assert_eq!(store::feed_rows(&app.pool).await, []);
    assert_eq!(store::sequencer(&app.pool).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_statement_have_their_own_numbers() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    // The requests wait for the lock and share a statement, in which the session has many versions.
    let connection = store::connect(&app).await;
    let mut locked = store::lock_session(connection, session["sessionId"].as_str().unwrap()).await;
    let mut watching = store::connect(&app).await;
    let change = async |number: u32| {
        let changed = app.change(&session, "a", json!({ "title": format!("t {number}") })).await;
        assert_eq!(changed["errcode"], 0, "{changed}");
    };
    let changes = futures_util::future::join_all((0..30).map(change));
    let unlock = async {
        store::wait_for_blocked_statement(&mut watching).await;
        store::unlock(&mut locked).await;
    };
    tokio::join!(changes, unlock);
    assert_eq!(complete_feed(&app.pool).await.len(), 31);
}

/// A copy of the database is in another cluster, where such numbers mean something else or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn no_column_has_a_number_of_one_cluster() {
    let app = spawn_app().await;
    assert_eq!(store::columns_of_one_cluster(&app.pool).await, Vec::<String>::new());
}
