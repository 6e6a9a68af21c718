//! `GET /v1/events`: the feed of an enterprise, page by page.

mod bounds;
mod clocks;
mod cursors;
mod min_cursor;
pub mod model;
mod reader;
mod snapshots;
mod streams;

use reqwest::Method;
use serde_json::{Value, json};

use super::complete_feed;
use crate::harness::client::Client;
use crate::harness::{TestApp, store};

/// A client with its API key.
#[derive(Clone)]
pub struct Caller {
    client: Client,
    key: String,
}

impl Caller {
    async fn send(&self, method: Method, path: &str, body: &Value) -> reqwest::Response {
        let request = self.client.request(method, path).bearer_auth(&self.key);
        request.json(body).send().await.unwrap()
    }

    /// A page of `GET /v1/events`.
    async fn page(&self, query: &str) -> Value {
        let request = self.client.request(Method::GET, &format!("/v1/events?{query}"));
        let response = request.bearer_auth(&self.key).send().await.unwrap();
        assert_eq!(response.headers()["cache-control"], "no-store");
        crate::v1::result(response).await
    }

    /// Creates a session of these members, of which the first is the owner, and returns its id.
    async fn create(&self, members: &[&str]) -> String {
        let body = json!({ "operator": members[0], "title": "before", "member": members });
        let created = self.send(Method::POST, "/v1/sessions", &body).await;
        id_of(&crate::v1::result(created).await)
    }

    /// Changes a session by its owner.
    async fn change(&self, id: &str, operator: &str, mut fields: Value) {
        fields["operator"] = json!(operator);
        let changed = self.send(Method::PATCH, &format!("/v1/sessions/{id}"), &fields).await;
        crate::v1::result(changed).await;
    }
}

/// The id of a session or of a change.
fn id_of(object: &Value) -> String {
    object["sessionId"].as_str().unwrap().to_owned()
}

/// The changes of a page.
fn events(page: &Value) -> &Vec<Value> {
    page["events"].as_array().unwrap()
}

fn seq(event: &Value) -> i64 {
    event["seq"].as_i64().unwrap()
}

fn next(page: &Value) -> String {
    page["nextCursor"].as_str().unwrap().to_owned()
}

/// Appends changes of another session, so that the positions so far are far from the end of the feed.
async fn append_other_changes(app: &TestApp) {
    let id = caller(app).create(&["x", "y", "z"]).await;
    complete_feed(&app.pool).await;
    store::append_changes(app, &id, 600).await;
}

fn caller(app: &TestApp) -> Caller {
    Caller { client: app.client.clone(), key: app.api_key.clone() }
}
