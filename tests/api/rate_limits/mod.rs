//! What one caller, or all of them together, may take from the others: time, turns, tries.

mod app_rate;
mod attempt_throttle;
mod client_disconnect;
mod deadline;
mod isolation;
mod load_shedding;
mod proxies;

use std::time::{Duration, Instant};

use muster::config::Settings;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::harness::{TestApp, store, wait_until};
use crate::metrics::scrape;

/// All go to the database, on one thread, and wait for each other.
fn narrow(settings: &mut Settings) {
    settings.server.workers = 1;
    settings.cache.enabled = false;
    settings.delivery.enabled = false;
    settings.metrics.bind = Some("127.0.0.1:0".to_owned());
}

/// An answer: its status, the header `Retry-After`, its body, and how long it took.
#[derive(Clone, Debug)]
struct Told {
    status: u16,
    retry_after: Option<u64>,
    body: Value,
    took: Duration,
}

impl Told {
    async fn by(began: Instant, response: Response) -> Self {
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.map(|wait| wait.to_str().unwrap().parse().unwrap());
        let status = response.status().as_u16();
        let body = response.json().await.unwrap();
        Self { status, retry_after, body, took: began.elapsed() }
    }
}

/// A call of `/v1` by the app that every test has.
async fn rest(app: &TestApp, method: Method, path: &str, body: Option<Value>) -> Told {
    let began = Instant::now();
    let request = app.client.request(method, path).bearer_auth(&app.api_key);
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    Told::by(began, request.send().await.unwrap()).await
}

/// A call of `/cgi` in the plain form: with a body it is a `POST`.
async fn cgi(app: &TestApp, call: &str, query: &str, body: Option<Value>) -> Told {
    let began = Instant::now();
    let path = format!("/cgi/session/{call}?accessToken={}{query}", app.api_key);
    let response = match body {
        Some(body) => app.client.post(&path, body.to_string()).await,
        None => app.client.get(&path).await,
    };
    Told::by(began, response).await
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

/// Waits until so many wait for the next statement of a kind. The metrics must be told.
async fn until_queued(app: &TestApp, kind: &str, many: u32) {
    let queue = format!("muster_queue_length{{kind=\"{kind}\"}}");
    wait_until(&format!("{many} in {queue}"), async || {
        scrape(app).await.has(&queue) == f64::from(many)
    })
    .await;
}
