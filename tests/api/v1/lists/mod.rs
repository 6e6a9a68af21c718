//! Lists, batch reads and members over HTTP: parameters, responses and errors. The tests of the
//! service check the content of lists in depth.

mod batch_get;
mod following;
mod members;
mod sessions;

use muster::domain::Permission;
use reqwest::header::ALLOW;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{problem, request};
use crate::harness::{BUIN, TestApp};
use crate::list::TestService;

const SESSIONS: &str = "/v1/sessions";
const BATCH_GET: &str = "/v1/sessions/batch-get";

/// A path with a query.
fn with(path: &str, query: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("{path}?{query}")
}

/// The body of a successful `GET`.
async fn found(app: &TestApp, path: &str) -> Value {
    let response = request(app, Method::GET, path).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    assert_eq!(response.headers()["content-type"], "application/json");
    response.json().await.unwrap()
}

/// A page, and the cursor of the next one.
async fn page(app: &TestApp, path: &str, query: &[(&str, &str)]) -> (Vec<Value>, Option<String>) {
    let mut found = found(app, &with(path, query)).await;
    // Only lists that a time of change orders or bounds have this time.
    found.as_object_mut().unwrap().remove("completeUntil");
    assert_eq!(found.as_object().unwrap().len(), 2, "{found}");
    let next = &found["nextCursor"];
    assert!(next.is_string() || next.is_null(), "{found}");
    (found["items"].as_array().unwrap().clone(), next.as_str().map(str::to_owned))
}

/// The items of all pages.
async fn all(app: &TestApp, path: &str, query: &[(&str, &str)]) -> Vec<Value> {
    let (mut items, mut cursor) = page(app, path, query).await;
    while let Some(text) = cursor {
        let query = [query, &[("cursor", &text)]].concat();
        let (more, next) = page(app, path, &query).await;
        items.extend(more);
        cursor = next;
    }
    items
}

/// The error of a refused `GET`.
async fn refused(app: &TestApp, path: &str) -> (u16, String, Value) {
    problem(request(app, Method::GET, path).send().await.unwrap()).await
}

/// The expected error of an invalid parameter.
fn invalid_field(name: &str, why: &str) -> (u16, String, Value) {
    let rest = json!({ "detail": format!("{name}: {why}"), "field": name });
    (400, "invalid_parameter".to_owned(), rest)
}

/// The expected error of a value beyond a limit.
fn out_of_range(name: &str, why: &str, limit: i64, got: i64) -> (u16, String, Value) {
    let (status, code, mut rest) = invalid_field(name, why);
    rest["limit"] = json!(limit);
    rest["got"] = json!(got);
    (status, code, rest)
}

fn session_not_found() -> (u16, String, Value) {
    let rest = json!({ "detail": "sessionId: no such session", "field": "sessionId" });
    (404, "session_not_found".to_owned(), rest)
}

fn texts<'a>(items: &'a [Value], field: &str) -> Vec<&'a str> {
    items.iter().map(|item| item[field].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn head_equals_get_without_body() {
    let service = TestService::start().await;
    let id = service.create("t", &["a", "b", "c"]).await.id.uuid();
    let paths = ["".to_owned(), format!("/{id}/members"), format!("/{id}/members/a")];
    for path in paths.map(|rest| format!("{SESSIONS}{rest}")) {
        let get = request(&service.app, Method::GET, &path).send().await.unwrap();
        let head = request(&service.app, Method::HEAD, &path).send().await.unwrap();
        assert_eq!((get.status(), head.status()), (StatusCode::OK, StatusCode::OK), "{path}");
        for name in ["content-type", "content-length"] {
            assert_eq!(head.headers()[name], get.headers()[name], "{path}");
        }
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_require_read_permission() {
    let service = TestService::start().await;
    let id = service.create("t", &["a", "b", "c"]).await.id;
    let ids = json!({ "ids": [id.to_string()] }).to_string();
    let (lists, members) = (SESSIONS.to_owned(), format!("{SESSIONS}/{}/members", id.uuid()));
    let one = format!("{members}/a");
    let post = (Method::POST, BATCH_GET.to_owned());
    let calls = [(Method::GET, lists), (Method::GET, members), (Method::GET, one), post];
    let (_, may_not) = service.app.another_app(BUIN, &[Permission::SessionsWrite]).await;
    let (_, may) = service.app.another_app(BUIN, &[Permission::SessionsAdmin]).await;
    for (method, path) in calls {
        let get = |key: &str| {
            let builder = service.app.client.request(method.clone(), &path).bearer_auth(key);
            builder.body(ids.clone()).send()
        };
        assert_eq!(get(&may).await.unwrap().status(), StatusCode::OK, "{path}");
        let rest = json!({ "detail": "the app lacks the permission sessions:read" });
        let expected = (403, "missing_permission".to_owned(), rest);
        assert_eq!(problem(get(&may_not).await.unwrap()).await, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_get_is_post_only() {
    let service = TestService::start().await;
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE] {
        let response = request(&service.app, method.clone(), BATCH_GET).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(response.headers()[ALLOW], "POST");
    }
}
