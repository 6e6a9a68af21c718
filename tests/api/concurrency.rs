//! Concurrent changes of one session, through two server processes on one database.

use std::collections::BTreeSet;
use std::time::Instant;

use muster::domain::Permission;
use serde_json::{Value, json};

use crate::harness::process::{Home, PlainClient, Server, WAIT_TIMEOUT};
use crate::harness::server::{Database, database};
use crate::harness::store::{self, Pool};
use crate::harness::{self, BUIN, new_app, register};

const TASKS: usize = 32;
const UPDATES: usize = 50;

/// Two servers on one database.
struct ServerPair {
    servers: [Server; 2],
    pool: Pool,
    api_key: String,
    _home: Home,
    _database: Database,
}

async fn server_pair() -> ServerPair {
    server_pair_on(database().await, |_| {}).await
}

async fn server_pair_on(database: Database, configure: impl FnOnce(&mut Home)) -> ServerPair {
    let pool = harness::connect(&database, &harness::settings());
    let app = new_app(BUIN, &[Permission::SessionsRead, Permission::SessionsWrite]);
    let api_key = register(&pool, &app).await;
    let mut home = Home::for_database(&database);
    configure(&mut home);
    let servers = [home.serve(), home.serve()];
    ServerPair { servers, pool, api_key, _home: home, _database: database }
}

impl ServerPair {
    /// A client of one of the two servers.
    fn client(&self, number: usize) -> PlainClient {
        self.servers[number % 2].plain_client(&self.api_key)
    }
}

/// One update of one task, and whether it changes anything. After all updates each task has added
/// one member and has set each of its titles once.
fn update(task: usize, step: usize) -> (Value, bool) {
    let member = |step: usize| format!("m{task}-{}", step / 5);
    match step % 5 {
        0 => (json!({ "addMember": [member(step)] }), true),
        1 => (json!({ "addMember": [member(step), "a"], "delMember": ["nobody"] }), false),
        2 | 3 => (json!({ "title": format!("t{task}-{step}") }), true),
        _ if step + 1 == UPDATES => (json!({ "delMember": [format!("nobody-{task}")] }), false),
        _ => (json!({ "delMember": [member(step)] }), true),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_changes_are_neither_lost_nor_refused() {
    let pair = server_pair().await;
    let session = pair.client(0).create().await;
    let id = session["sessionId"].as_str().unwrap().to_owned();

    let started_at = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (client, id) = (pair.client(task), id.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for step in 0..UPDATES {
                    let (mut body, is_effective) = update(task, step);
                    body["sessionId"] = json!(id);
                    body["opUser"] = json!("a");
                    let answer = client.post("update", &body).await;
                    assert_eq!(answer["errcode"], 0, "{body}: {answer}");
                    if is_effective {
                        acknowledged.push((answer["version"].as_i64().unwrap(), body));
                    }
                }
                acknowledged
            })
        })
        .collect();
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.unwrap());
    }
    let elapsed = started_at.elapsed();
    let count = TASKS * UPDATES;
    println!("{count} updates, {} effective: {elapsed:?}", acknowledged.len());
    println!("{:.0} updates/s", count as f64 / elapsed.as_secs_f64());

    // Each acknowledged change made one version, without gaps.
    acknowledged.sort_unstable_by_key(|(version, _)| *version);
    let versions: Vec<i64> = acknowledged.iter().map(|(version, _)| *version).collect();
    let last = 1 + i64::try_from(acknowledged.len()).unwrap();
    assert_eq!(versions, (2..=last).collect::<Vec<_>>());

    // The history has the change under its version.
    let events = store::stored_changes(&pair.pool, &id).await;
    let numbers: Vec<i64> = events.iter().map(|(version, _)| *version).collect();
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
    for ((_, body), (version, changes)) in acknowledged.iter().zip(&events[1..]) {
        for field in ["title", "addMember", "delMember"] {
            let changed = changes.get(field).filter(|value| **value != json!([]));
            assert_eq!(changed, body.get(field), "{field} of version {version}: {changes:?}");
        }
    }

    // Both servers return the same final session.
    for client in [pair.client(0), pair.client(1)] {
        // Each server sees the changes of the other within the follow interval.
        let mut result = client.get(&id).await;
        let deadline = Instant::now() + WAIT_TIMEOUT;
        while result["version"] != last && Instant::now() < deadline {
            result = client.get(&id).await;
        }
        assert_eq!(result["version"], last);
        let has_title = |(_, body): &&(i64, Value)| body.get("title").is_some();
        let (_, title) = acknowledged.iter().rev().find(has_title).unwrap();
        assert_eq!(result["title"], title["title"]);
        let members = result["member"].as_array().unwrap();
        let found: BTreeSet<_> = members.iter().map(|name| name.as_str().unwrap()).collect();
        let added: Vec<_> = (0..TASKS).map(|task| format!("m{task}-9")).collect();
        let expected: BTreeSet<_> =
            added.iter().map(String::as_str).chain(["a", "b", "c"]).collect();
        assert_eq!(found, expected);
        assert_eq!(members.len(), expected.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_concurrent_updates_with_a_version_wins() {
    const CLIENTS: usize = 16;
    let pair = server_pair().await;
    let session = pair.client(0).create().await;
    for version in 1..=10 {
        let updates: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let client = pair.client(number);
                let body = json!({
                    "sessionId": session["sessionId"], "opUser": "a",
                    "version": version, "title": format!("{version} of {number}"),
                });
                tokio::spawn(async move { (number, client.post("update", &body).await) })
            })
            .collect();
        let mut winners = Vec::new();
        for update in updates {
            let (number, answer) = update.await.unwrap();
            if answer["errcode"] == 0 {
                winners.push((number, answer));
                continue;
            }
            assert_eq!(answer["errcode"], 400_009, "{answer}");
            let errmsg = answer["errmsg"].as_str().unwrap();
            assert!(errmsg.contains(&format!("current version is {}", version + 1)), "{errmsg}");
        }
        let [(winner, answer)] = &winners[..] else { panic!("winners: {winners:?}") };
        assert_eq!(answer["version"], version + 1);
        let now = pair.client(1).get(session["sessionId"].as_str().unwrap()).await;
        assert_eq!(&now, answer);
        assert_eq!(now["title"], format!("{version} of {winner}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_changing_the_same_sessions_do_not_deadlock() {
    const SESSIONS: usize = 24;
    const TASKS: usize = 96;
    const UPDATES: usize = 5;
    let database = database().await;
    let mut connection = store::connect_to(&database).await;
    // Requests of one server can share a statement.
    let one_worker = |home: &mut Home| _ = home.set("MUSTER__SERVER__WORKERS", "1");
    let pair = server_pair_on(database, one_worker).await;
    store::slow_down_updates(&mut connection).await;
    let mut ids = Vec::new();
    for _ in 0..SESSIONS {
        let session = pair.client(0).create().await;
        ids.push(session["sessionId"].as_str().unwrap().to_owned());
    }
    let clients = [pair.client(0), pair.client(1)];
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (client, ids) = (clients[task % 2].clone(), ids.clone());
            tokio::spawn(async move {
                for step in 0..UPDATES {
                    // Each task has its own order of sessions.
                    let id = &ids[(task + step * (2 * task + 1)) % SESSIONS];
                    let title = format!("t{task}-{step}");
                    let body = json!({ "sessionId": id, "opUser": "a", "title": title });
                    let answer = client.post("update", &body).await;
                    assert_eq!((&answer["errcode"], &answer["title"]), (&json!(0), &json!(title)));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let ServerPair { servers, pool, .. } = pair;
    let changes = store::count_updates(&pool).await;
    assert_eq!(usize::try_from(changes).unwrap(), TASKS * UPDATES);
    for server in servers {
        server.stop();
    }
    pool.close().await;
    assert_eq!(store::count_deadlocks(&mut connection).await, 0);
}
