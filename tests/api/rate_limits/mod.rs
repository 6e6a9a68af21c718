//! Limits that protect callers from each other: rates, deadlines, queues, failed attempts.

mod app_rate;
mod attempt_throttle;
#[cfg(target_os = "linux")]
mod background;
mod client_disconnect;
mod deadline;
mod isolation;
mod load_shedding;
mod neighbors;
mod proxies;

use std::time::Duration;

use muster::config::Settings;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::harness::{TestApp, store, wait_until};
use crate::metrics::scrape;

/// One thread, no cache: all requests share the connection to the database.
fn with_one_connection(settings: &mut Settings) {
    settings.server.workers = 1;
    settings.cache.enabled = false;
    settings.delivery.enabled = false;
    settings.metrics.bind = Some("127.0.0.1:0".to_owned());
}

/// A statement that waits for the lock of a test ends only because the test releases the lock.
fn with_long_timeouts(settings: &mut Settings) {
    settings.server.request_timeout = Duration::from_secs(300);
    settings.database.acquire_timeout = Duration::from_secs(100);
    settings.database.statement_timeout = Duration::from_secs(100);
}

/// A response: its status, `Retry-After` and body.
#[derive(Clone, Debug)]
struct Reply {
    status: u16,
    retry_after: Option<u64>,
    body: Value,
}

impl Reply {
    async fn from_response(response: Response) -> Self {
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.map(|wait| wait.to_str().unwrap().parse().unwrap());
        let status = response.status().as_u16();
        let body = response.json().await.unwrap();
        Self { status, retry_after, body }
    }
}

/// A call of `/v1` with the test app's key.
async fn rest(app: &TestApp, method: Method, path: &str, body: Option<Value>) -> Reply {
    let request = app.client.request(method, path).bearer_auth(&app.api_key);
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    Reply::from_response(request.send().await.unwrap()).await
}

/// A plain call of `/cgi`: a `POST` if it has a body, else a `GET`.
async fn cgi(app: &TestApp, call: &str, query: &str, body: Option<Value>) -> Reply {
    let path = format!("/cgi/session/{call}?accessToken={}{query}", app.api_key);
    let response = match body {
        Some(body) => app.client.post(&path, body.to_string()).await,
        None => app.client.get(&path).await,
    };
    Reply::from_response(response).await
}

fn new_session() -> Value {
    json!({ "title": "new", "creator": "a", "member": ["b", "c"] })
}

fn new_rest_session() -> Value {
    json!({ "title": "new", "operator": "a", "member": ["b", "c"] })
}

/// Waits until a statement of the service waits for the lock.
async fn until_locked(app: &TestApp) {
    store::wait_for_blocked_statement(&mut store::connect(app).await).await;
}

/// Waits until `count` requests wait for the next statement of a kind. Needs the metrics listener.
async fn until_queued(app: &TestApp, kind: &str, count: u32) {
    let queue = format!("muster_queue_length{{kind=\"{kind}\"}}");
    wait_until(&format!("{count} in {queue}"), async || {
        scrape(app).await.has(&queue) == f64::from(count)
    })
    .await;
}
