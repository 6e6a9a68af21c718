//! The operations as the page `/v1/docs` fills them in. Swagger UI takes the `example` of a
//! parameter or of its schema, else the default. Of a body it takes the first example.
//!
//! `.ci/clients` does the same in a browser.

use std::collections::BTreeSet;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::description::{committed, followed};
use super::{create_session, operations, request};
use crate::harness::{TestApp, spawn_app};

/// The value that the page fills in.
fn filled_in(parameter: &Value) -> Option<String> {
    let document = committed();
    let schema = followed(&document, &parameter["schema"]);
    let values = [&parameter["example"], &schema["example"], &schema["default"]];
    values.into_iter().find(|value| !value.is_null()).map(text)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn parameters(operation: &Value) -> &Vec<Value> {
    operation["parameters"].as_array().unwrap()
}

/// Executes an operation as filled in, with this session.
async fn execute(app: &TestApp, session: &str, operation: &(Method, String, Value)) -> Response {
    let (method, path, described) = operation;
    let mut path = path.replace("{sessionId}", session);
    let (mut query, mut headers) = (form_urlencoded::Serializer::new(String::new()), Vec::new());
    for parameter in parameters(described) {
        let name = parameter["name"].as_str().unwrap();
        let Some(value) = filled_in(parameter) else { continue };
        match parameter["in"].as_str().unwrap() {
            "path" => path = path.replace(&format!("{{{name}}}"), &value),
            "query" => drop(query.append_pair(name, &value)),
            _ => headers.push((name.to_owned(), value)),
        }
    }
    let mut builder = request(app, method.clone(), &format!("{path}?{}", query.finish()));
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    if let Some(body) = described.get("requestBody") {
        let contents = body["content"].as_object().unwrap();
        let (kind, content) = contents.iter().next().unwrap();
        let filled_in = filled_in_body(content);
        builder = builder.header("content-type", kind).body(text(&filled_in));
    }
    builder.send().await.unwrap()
}

fn filled_in_body(content: &Value) -> Value {
    let document = committed();
    let examples = content["examples"].as_object();
    let first = examples.and_then(|examples| Some(&examples.values().next()?["value"]));
    let schema = followed(&document, &content["schema"]);
    let own = content.get("example");
    first.or(own).unwrap_or(&schema["example"]).clone()
}

/// Executes an operation, which must succeed.
async fn succeed(app: &TestApp, session: &str, operation: &(Method, String, Value)) {
    let response = execute(app, session, operation).await;
    let (status, id) = (response.status(), operation.2["operationId"].clone());
    assert!(status.is_success(), "{id}: {status} {}", response.text().await.unwrap());
}

/// The operation that creates the consumer of the other operations.
fn put_consumer() -> (Method, String, Value) {
    operations().into_iter().find(|(.., of)| of["operationId"] == "putConsumer").unwrap()
}

async fn new_session(app: &TestApp) -> String {
    let (path, _) = create_session(app, &["alice", "bob", "carol"]).await;
    path.rsplit('/').next().unwrap().to_owned()
}

#[test]
fn only_required_parameters_are_filled_in() {
    let mut mistakes = BTreeSet::new();
    for (method, path, operation) in operations() {
        for parameter in parameters(&operation) {
            let name = parameter["name"].as_str().unwrap();
            let found = filled_in(parameter);
            let wanted = match parameter["required"] == true {
                true => found.is_some() != (name == "sessionId"),
                false => found == parameter["schema"].get("default").map(text),
            };
            if !wanted {
                mistakes.insert(format!("{method} {path}: {name}: {found:?}"));
            }
        }
    }
    assert!(mistakes.is_empty(), "{mistakes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_succeeds_as_filled_in_on_a_new_session() {
    let app = spawn_app().await;
    for operation in operations() {
        succeed(&app, "", &put_consumer()).await;
        succeed(&app, &new_session(&app).await, &operation).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_succeed_as_filled_in_one_after_the_other() {
    let app = spawn_app().await;
    let all = operations();
    let restore = all.iter().find(|(.., of)| of["operationId"] == "restoreSession").unwrap();
    let session = new_session(&app).await;
    succeed(&app, &session, &put_consumer()).await;
    for operation in all.iter().chain(all.iter().rev()) {
        succeed(&app, &session, operation).await;
        // A dissolved session refuses changes.
        if operation.2["operationId"] == "dissolveSession" {
            succeed(&app, &session, restore).await;
        }
        // A consumer that is removed must be created again.
        if operation.2["operationId"] == "removeConsumer" {
            succeed(&app, &session, &put_consumer()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn created_session_exists_afterwards() {
    let app = spawn_app().await;
    let all = operations();
    let find = |id: &str| all.iter().find(|(.., of)| of["operationId"] == id).unwrap();
    let created: Value = execute(&app, "", find("createSession")).await.json().await.unwrap();
    let id = created["sessionId"].as_str().unwrap();
    let read: Value = execute(&app, id, find("getSession")).await.json().await.unwrap();
    assert_eq!(read, created);
    let again: Value = execute(&app, "", find("createSession")).await.json().await.unwrap();
    assert_ne!(again["sessionId"], created["sessionId"], "no Idempotency-Key is filled in");
    let batch: Value = execute(&app, "", find("batchSessions")).await.json().await.unwrap();
    let statuses: Vec<_> =
        batch["items"].as_array().unwrap().iter().map(|it| &it["status"]).collect();
    assert_eq!(json!(statuses), json!([201, 201]));
}
