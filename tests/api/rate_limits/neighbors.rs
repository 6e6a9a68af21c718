//! An enterprise that sends too much, with valid keys, is slow by itself: another one is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use muster::domain::Permission;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use super::{Reply, with_long_timeouts};
use crate::harness::client::Client;
use crate::harness::store::{self, StoredHistory};
use crate::harness::{BUIN, TestApp, wait_until};
use crate::metrics::{scrape, spawn_with};
use crate::transport::slow_readers::{connect_with_small_buffer, create_large_session};

/// A client of an enterprise.
#[derive(Clone)]
struct Caller {
    client: Client,
    key: String,
}

impl Caller {
    /// The client of the default app.
    fn first(app: &TestApp) -> Self {
        Self { client: app.client.clone(), key: app.api_key.clone() }
    }

    /// The client of another enterprise, and its session.
    async fn neighbor(app: &TestApp) -> (Self, String) {
        let permissions = [Permission::SessionsRead, Permission::SessionsWrite];
        let (client, key) = app.another_app(BUIN + 1, &permissions).await;
        let neighbor = Self { client, key };
        let body = json!({ "operator": "a", "title": "neighbor", "member": ["b", "c"] });
        let created = neighbor.send(Method::POST, "/v1/sessions", Some(&body)).await;
        assert_eq!(created.status, 201, "{created:?}");
        let id = created.body["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_owned();
        (neighbor, id)
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let request = self.client.request(method, path).bearer_auth(&self.key);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        Reply::from_response(request.send().await.unwrap()).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None).await
    }
}

/// The list and the session of the neighbor, also from the database.
async fn assert_served(neighbor: &Caller, id: &str) {
    for path in ["/v1/sessions".to_owned(), format!("/v1/sessions/{id}")] {
        for query in ["", "?member=b"] {
            let query = if path.ends_with(id) { "" } else { query };
            let reply = neighbor.get(&format!("{path}{query}")).await;
            assert_eq!(reply.status, 200, "{path} {reply:?}");
        }
    }
    let request = neighbor.client.request(Method::GET, &format!("/v1/sessions/{id}"));
    let request = request.bearer_auth(&neighbor.key).header("Cache-Control", "no-cache");
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_reads_of_an_enterprise_leave_connections_to_another() {
    let app = spawn_with(with_long_timeouts).await;
    let (neighbor, id) = Caller::neighbor(&app).await;
    let heavy = StoredHistory::of_titles(&app, 10).insert(&app).await;
    let first = Caller::first(&app);
    let locked = store::lock_snapshots(&app).await;
    let path = format!("/v1/sessions/{heavy}?version=9");
    let mut reads: FuturesUnordered<_> = (0..40).map(|_| first.get(&path)).collect();
    let meanwhile = async {
        // Three quarters of the connections are the share of one enterprise.
        wait_until("the whole share is in use", async || {
            scrape(&app).await.has("muster_pool_connections{state=\"used\"}") >= 7.0
        })
        .await;
        for _ in 0..5 {
            assert_served(&neighbor, &id).await;
            let used = scrape(&app).await.has("muster_pool_connections{state=\"used\"}");
            assert!((7.0..10.0).contains(&used), "{used}");
        }
        drop(locked);
    };
    let all = async {
        let mut replies = Vec::new();
        while let Some(reply) = reads.next().await {
            replies.push(reply.status);
        }
        replies
    };
    let (replies, ()) = tokio::join!(all, meanwhile);
    // The requests of the enterprise itself have waited for each other.
    assert_eq!(replies, [200; 40]);
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_heavy_reads_harms_no_other_enterprise() {
    let app = spawn_with(|_| {}).await;
    let (neighbor, id) = Caller::neighbor(&app).await;
    let history = StoredHistory::of_accounts(&app, 121, 1_900);
    let heavy = history.insert(&app).await;
    let mut many = Vec::new();
    for _ in 0..20 {
        many.push(StoredHistory::of_accounts(&app, 2, 1_900).insert(&app).await.to_string());
    }
    let ids = Arc::new(json!({ "ids": many }));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut flood = JoinSet::new();
    for number in 0..48_i64 {
        let (first, ids, is_over) = (Caller::first(&app), ids.clone(), is_over.clone());
        flood.spawn(async move {
            let (mut served, mut refused) = (0, 0);
            for round in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let version = 2 + (number * 7 + round * 13) % 119;
                let reply = match number % 4 {
                    0 => first.get(&format!("/v1/sessions/{heavy}?version={version}")).await,
                    1 => first.get(&format!("/v1/sessions/{heavy}/diff?from=2&to={version}")).await,
                    2 => first.get(&format!("/v1/sessions/{heavy}/events?limit=200")).await,
                    _ => first.send(Method::POST, "/v1/sessions/batch-get", Some(&ids)).await,
                };
                match reply.status {
                    200 => served += 1,
                    503 => refused += 1,
                    _ => panic!("{reply:?}"),
                }
            }
            (served, refused)
        });
    }
    // Only while the flood runs.
    wait_until("the flood has begun", async || {
        scrape(&app).await.has("muster_history_events_read_total") > 0.0
    })
    .await;
    for _ in 0..10 {
        assert_served(&neighbor, &id).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let counts = flood.join_all().await;
    let served: u64 = counts.iter().map(|(served, _)| served).sum();
    assert!(served > 0, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn enterprises_take_turns_in_a_queue() {
    const QUEUE: &str = "muster_queue_length{kind=\"create\"}";
    let app = spawn_with(|settings| {
        with_long_timeouts(settings);
        // One queue, and one request in each statement.
        settings.server.workers = 1;
        settings.database.max_batch = 1;
    })
    .await;
    let (neighbor, _) = Caller::neighbor(&app).await;
    store::slow_down_creates(&app, 0.3).await;
    let body = json!({ "operator": "a", "title": "t", "member": ["b", "c"] });
    let mut flood = JoinSet::new();
    for _ in 0..24 {
        let (first, body) = (Caller::first(&app), body.clone());
        flood.spawn(async move { first.send(Method::POST, "/v1/sessions", Some(&body)).await });
    }
    let queued = async || scrape(&app).await.has(QUEUE);
    wait_until("many creates wait", async || queued().await >= 18.0).await;
    // The neighbor is served after one or two of them, and not after all.
    let created = neighbor.send(Method::POST, "/v1/sessions", Some(&body)).await;
    assert_eq!(created.status, 201, "{created:?}");
    let left = queued().await;
    assert!(left >= 5.0, "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_of_an_enterprise_hold_its_share_of_memory() {
    const BUDGET: f64 = 4_194_304.0;
    let app = spawn_with(|settings| {
        with_long_timeouts(settings);
        settings.limits.max_response_bytes_in_flight = 4 * 1024 * 1024;
    })
    .await;
    let (neighbor, id) = Caller::neighbor(&app).await;
    // A session of the neighbor whose response is large.
    let members: Vec<String> = (0..1_900).map(|number| format!("{number:0>60}")).collect();
    let body = json!({ "operator": "a", "addMember": members });
    let patched = neighbor.send(Method::PATCH, &format!("/v1/sessions/{id}"), Some(&body)).await;
    assert_eq!(patched.status, 200);

    let request = create_large_session(&app).await;
    let path = request.split(' ').nth(1).unwrap();
    // Each reader sends requests until it is ended, because the first responses stay in the buffers of
    // the system, and refused requests end at once.
    let mut readers = JoinSet::new();
    for _ in 0..20 {
        let mut stream = connect_with_small_buffer(&app).await;
        let request = request.clone();
        readers.spawn(async move { while stream.write_all(request.as_bytes()).await.is_ok() {} });
    }
    let unread = async || scrape(&app).await.has("muster_unread_response_bytes");
    // Eight responses of about 126 KB fit into a quarter of the budget. Room for one comes back for a
    // moment when a response has moved into the buffers of the system.
    wait_until("a read by /cgi is refused", async || {
        let reply = app.client.get(path).await;
        let retry_after = reply.headers().get("retry-after").map(|value| value == "1");
        (reply.status().as_u16(), retry_after) == (503, Some(true))
    })
    .await;
    let first = Caller::first(&app);
    let session = format!("/v1/sessions/{}", path.split("sessionId=").nth(1).unwrap());
    wait_until("a read by /v1 is refused", async || {
        let reply = first.get(&session).await;
        (reply.status, &reply.body["code"]) == (503, &json!("overloaded"))
    })
    .await;
    // Changes are still made, and answered in any case.
    let body = json!({ "operator": format!("{:0>60}", 0), "title": "t" });
    assert_eq!(first.send(Method::PATCH, &session, Some(&body)).await.status, 200);
    for _ in 0..5 {
        assert_served(&neighbor, &id).await;
        // The response to the neighbor counts until its last part was handed to the connection.
        wait_until("the share is kept", async || unread().await <= BUDGET / 4.0).await;
    }
    assert!(scrape(&app).await.has("muster_responses_rejected_total") >= 2.0);

    readers.shutdown().await;
    wait_until("no response is unread", async || unread().await == 0.0).await;
    assert_eq!(app.client.get(path).await.status(), 200);
}
