//! Named consumers: their members share the changes, and each change is done in its order.

mod acknowledgement;
mod commands;
mod crowd;
mod leases;
mod management;
mod parking;
mod reads;
mod waits;

use std::net::SocketAddr;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{create_session, get, result, send};
use crate::harness::process::plain_http;
use crate::harness::{TestApp, store, wait_until};

const MIRROR: &str = "/v1/consumers/mirror";

/// Creates or changes a consumer.
async fn put(app: &TestApp, path: &str, body: Value) -> Value {
    result(send(app, Method::PUT, path, &body).await).await
}

/// A consumer that starts at the beginning.
async fn consumer_from_beginning(app: &TestApp) {
    // The lease is long: a test ends it by an act of its own.
    put(app, MIRROR, json!({ "start": "0", "lease": "3600s" })).await;
}

/// Sends a `POST` to the consumer `mirror`, through the server at `address`.
async fn post_to(app: &TestApp, address: SocketAddr, action: &str, body: &Value) -> Response {
    let url = format!("http://{address}{MIRROR}/{action}");
    plain_http()
        .build()
        .unwrap()
        .post(url)
        .bearer_auth(&app.api_key)
        .json(body)
        .send()
        .await
        .unwrap()
}

/// The events that a member fetches.
async fn fetch(app: &TestApp, member: &str, max: usize) -> Vec<Value> {
    fetch_from(app, app.address, member, max).await
}

/// The same through the server at `address`.
async fn fetch_from(app: &TestApp, address: SocketAddr, member: &str, max: usize) -> Vec<Value> {
    let body = json!({ "member": member, "max": max });
    let fetched = result(post_to(app, address, "fetch", &body).await).await;
    fetched["events"].as_array().unwrap().clone()
}

/// Acknowledges events. Returns the number of those that are done, and the cursors of the lost ones.
async fn acknowledge(app: &TestApp, member: &str, events: &[Value]) -> (u64, Vec<Value>) {
    let cursors: Vec<&Value> = events.iter().map(|event| &event["cursor"]).collect();
    let body = json!({ "member": member, "cursors": cursors });
    let done = result(post_to(app, app.address, "ack", &body).await).await;
    (done["acknowledged"].as_u64().unwrap(), done["lost"].as_array().unwrap().clone())
}

/// The consumer `mirror`.
async fn status(app: &TestApp) -> Value {
    get(app, MIRROR).await
}

/// Session and version of each event.
fn changes(events: &[Value]) -> Vec<(String, i64)> {
    let change = |event: &Value| {
        let session = event["sessionId"].as_str().unwrap().to_owned();
        (session, event["version"].as_i64().unwrap())
    };
    events.iter().map(change).collect()
}

/// Creates a session and changes its title until it has this version. Returns its id.
async fn session_with_versions(app: &TestApp, members: &[&str], version: i64) -> String {
    let (path, session) = create_session(app, members).await;
    for number in 2..=version {
        let body = json!({ "operator": members[0], "title": format!("title {number}") });
        result(send(app, Method::PATCH, &path, &body).await).await;
    }
    // The numbers then have the order of the calls.
    wait_numbered(app).await;
    session["sessionId"].as_str().unwrap().to_owned()
}

/// Waits until all changes have numbers.
async fn wait_numbered(app: &TestApp) {
    wait_until("numbers for all changes", async || store::count_waiting(&app.pool).await == 0)
        .await;
}
