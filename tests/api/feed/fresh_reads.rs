//! Reads that name what their client has seen: under load, no server answers with less.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use muster::clock::Clock;
use reqwest::Method;
use serde_json::{Value, json};

use super::streams::EVENTS;
use crate::faults::is_long;
use crate::harness::client::Client;
use crate::harness::{TestApp, spawn_app_with, spawn_app_with_clock, unshared};
use crate::v1::{problem, result};

/// The clients that write and read at the same time.
const TASKS: usize = 8;

/// The number of reads of a test.
fn reads() -> usize {
    if is_long() { 10_000 } else { 500 }
}

/// A client of two servers.
#[derive(Clone)]
struct TwoServers {
    servers: [Client; 2],
    key: String,
}

impl TwoServers {
    async fn send(
        &self,
        server: usize,
        method: Method,
        path: &str,
        header: Option<(&str, &str)>,
        body: &Value,
    ) -> reqwest::Response {
        let request = self.servers[server].request(method, path).bearer_auth(&self.key);
        let request = match header {
            Some((name, value)) => request.header(name, value),
            None => request,
        };
        request.json(body).send().await.unwrap()
    }

    async fn get(&self, server: usize, path: &str, header: Option<(&str, &str)>) -> Value {
        result(self.send(server, Method::GET, path, header, &Value::Null).await).await
    }

    /// Creates a session with this member, and returns its id.
    async fn create(&self, member: &str) -> String {
        let body = json!({ "operator": "a", "title": "t", "member": ["a", "b", member] });
        let created = self.send(0, Method::POST, "/v1/sessions", None, &body).await;
        let created = result(created).await;
        created["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_owned()
    }

    /// Changes a session through a server, and returns its version.
    async fn change(&self, server: usize, id: &str, number: usize) -> i64 {
        let body = json!({ "operator": "a", "title": format!("t {number}") });
        let path = format!("/v1/sessions/{id}");
        let changed = self.send(server, Method::PATCH, &path, None, &body).await;
        result(changed).await["version"].as_i64().unwrap()
    }
}

/// Two servers of an app.
async fn two_servers(app: &TestApp) -> (TwoServers, muster::cli::ShutdownSignal) {
    let (address, signal) = app.another_instance().await;
    let servers = [app.client.clone(), app.client.at(address)];
    (TwoServers { servers, key: app.api_key.clone() }, signal)
}

/// The memory of a server learns nothing of the other's changes here, so each read without a version
/// shows the session as it was.
#[tokio::test(flavor = "multi_thread")]
async fn no_session_is_older_than_its_least_version_on_the_other_server() {
    let app = spawn_app_with(|settings| {
        settings.cache.follow_interval = Duration::from_secs(7_200);
    })
    .await;
    let (clients, _signal) = two_servers(&app).await;
    let stale = Arc::<AtomicUsize>::default();
    let count = reads() / TASKS;
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let (clients, stale) = (clients.clone(), stale.clone());
        tasks.push(tokio::spawn(async move {
            let id = clients.create(&format!("m{task}")).await;
            let path = format!("/v1/sessions/{id}");
            for number in 0..count {
                let (writer, reader) = (number % 2, 1 - number % 2);
                let version = clients.change(writer, &id, number).await;
                let without = clients.get(reader, &path, None).await;
                stale.fetch_add(usize::from(without["version"] != version), Ordering::Relaxed);
                let least = version.to_string();
                let header = Some(("Muster-Min-Version", least.as_str()));
                assert_eq!(clients.get(reader, &path, header).await["version"], version);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let stale = stale.load(Ordering::Relaxed);
    assert!(unshared() || stale > reads() / 2, "only {stale} reads needed the version");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_list_is_older_than_its_least_cursor_on_the_other_server() {
    let app = spawn_app_with_clock(Clock::system()).await;
    let (clients, _signal) = two_servers(&app).await;
    let count = reads() / TASKS;
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let clients = clients.clone();
        tasks.push(tokio::spawn(async move {
            let member = format!("m{task}");
            let id = clients.create(&member).await;
            let mut cursor = "0".to_owned();
            for number in 0..count {
                let (writer, reader) = (number % 2, 1 - number % 2);
                let version = clients.change(writer, &id, number).await;
                cursor = cursor_of(&clients, writer, &id, version, cursor).await;
                for query in ["", "&sort=-updatedAt", "&sort=updatedAt"] {
                    let path = format!("/v1/sessions?member={member}{query}");
                    let page = list(&clients, reader, &path, &cursor).await;
                    assert_eq!(page["items"][0]["version"], version, "{path}: {page}");
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// Follows a session to this version. Returns the cursor of the change.
async fn cursor_of(
    clients: &TwoServers,
    server: usize,
    id: &str,
    version: i64,
    mut after: String,
) -> String {
    loop {
        let path = format!("{EVENTS}?sessionId={id}&after={after}&wait=30s");
        let page = clients.get(server, &path, None).await;
        page["nextCursor"].as_str().unwrap().clone_into(&mut after);
        for event in page["events"].as_array().unwrap() {
            if event["version"] == version {
                return event["cursor"].as_str().unwrap().to_owned();
            }
        }
    }
}

/// A list up to a cursor. A server that does not have the changes yet says so, and is asked again.
async fn list(clients: &TwoServers, server: usize, path: &str, cursor: &str) -> Value {
    loop {
        let header = Some(("Muster-Min-Cursor", cursor));
        let response = clients.send(server, Method::GET, path, header, &Value::Null).await;
        if response.status() == 200 {
            return result(response).await;
        }
        let (status, code, _) = problem(response).await;
        assert_eq!((status, code.as_str()), (412, "cursor_not_reached"));
    }
}
