//! The connections of a busy server: as many as the manual says.

use std::path::Path;

use serde_json::json;
use tokio::task::JoinSet;

use crate::callbacks::receiver::Receiver;
use crate::harness::process::{Home, PlainClient, http};
use crate::harness::{store, wait_until};

/// The size of the pool.
const POOL: usize = 3;
/// Three for each of eight threads, and eleven.
const OWN: usize = 3 * 8 + 11;
/// The connections among them that a server opens for a short time only: one for a test whether writes
/// end, and one to cancel statements.
const SHORT: usize = 2;
/// More than the threads that count.
const THREADS: usize = 10;

/// Calls every kind of operation.
async fn call(client: PlainClient) {
    let session = client.create().await;
    let update = json!({ "sessionId": session["sessionId"], "opUser": "a", "title": "new" });
    client.post("update", &update).await;
    // A session that no cache has.
    client.errcode().await;
    for path in ["/v1/sessions?limit=1", "/readyz"] {
        let request = client.http.get(format!("{}{path}", client.base));
        request.bearer_auth(&client.api_key).send().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_server_opens_as_many_connections_as_the_manual_says() {
    for page in ["scaling.md", "external-postgresql.md", "configuration.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operate").join(page);
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("at most 8 threads count), plus eleven"), "{page}");
    }
    let mut home = Home::with_database();
    home.set("MUSTER__SERVER__WORKERS", &THREADS.to_string());
    home.set("MUSTER__DATABASE__MAX_CONNECTIONS", &POOL.to_string());
    let server = home.serve();
    let receiver = Receiver::start().await;
    let buin = home.credentials()["buin"].to_string();
    let arguments = ["app", "create", "--buin", &buin, "--permissions", "callbacks"];
    let url = receiver.url("/");
    let callbacks = ["--callback-url", &url, "--callback-token", "token"];
    let subscriber = home.json(&[&arguments[..], &callbacks].concat());
    receiver.add_app(server.client(&subscriber), "token");
    let api_key = home.api_key();
    let events = http().get(server.url("/v1/events")).bearer_auth(&api_key);
    let stream = events.header("Accept", "text/event-stream").send().await.unwrap();
    assert_eq!(stream.status(), 200);

    let mut connection = home.connect_as("postgres").await;
    let mut most = 0;
    wait_until("all connections", async || {
        // Each client has a connection of its own, so all threads have requests.
        let mut calls = JoinSet::new();
        for _ in 0..4 * THREADS {
            calls.spawn(call(server.plain_client(&api_key)));
        }
        while calls.join_next().await.transpose().unwrap().is_some() {
            most = most.max(store::count_connections(&mut connection).await);
        }
        most >= POOL + OWN - SHORT
    })
    .await;
    println!("at most {most} connections");
    assert!(most <= POOL + OWN, "{most}");
    // The embedded PostgreSQL has room for four such servers, and for 20 commands.
    let setting = store::max_connections(&mut connection).await;
    assert_eq!(setting, 4 * (POOL + OWN) + 20);
    server.stop();
}
