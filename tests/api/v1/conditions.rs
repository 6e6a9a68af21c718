//! Conditional requests: every condition of every operation is evaluated or refused, and a condition
//! that does not hold leaves no trace.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{create_session, get, operations, problem, request, result, send};
use crate::harness::store;
use crate::harness::{BUIN, TestApp, spawn_app};

const DATE: &str = "Mon, 10 Jun 2030 06:13:20 GMT";

/// Conditions that do not hold for a session at version 2, or that no response can fulfil.
const FALSE_CONDITIONS: [(&str, &str); 9] = [
    ("If-Match", "\"1\""),
    ("If-Match", "W/\"2\""),
    ("If-Match", ""),
    ("If-None-Match", "\"2\""),
    ("If-None-Match", "W/\"2\""),
    ("If-None-Match", "*"),
    ("If-Unmodified-Since", "Mon, 10 Jun 2019 06:13:20 GMT"),
    ("If-Modified-Since", DATE),
    ("If-Range", "\"1\""),
];

/// The consumer of the operations that need one.
const CONSUMER: &str = "mirror";

/// A valid body of each operation that is no `GET`. `null`: the operation has no body.
fn body(operation: &str, id: &Value) -> Value {
    match operation {
        "createSession" => json!({ "operator": "a", "title": "t", "member": ["b", "c"] }),
        "updateSession" => json!({ "operator": "a", "title": "after" }),
        "restoreSession" | "addMember" => json!({ "operator": "a" }),
        "revertSession" => json!({ "operator": "a", "version": 1 }),
        "replaceMembers" => json!({ "operator": "a", "member": ["a", "b", "c", "x"] }),
        "batchGetSessions" => json!({ "ids": [id] }),
        "batchSessions" => json!({ "items": [
            { "create": { "operator": "a", "title": "t", "member": ["b", "c"] } },
            { "update": { "sessionId": id, "operator": "a", "title": "after" } }
        ] }),
        "putConsumer" | "releaseEvents" => json!({}),
        "fetchEvents" => json!({ "member": "m" }),
        "acknowledgeEvents" => json!({ "member": "m", "cursors": [] }),
        "resetConsumer" => json!({ "start": "0" }),
        "compareSessions" | "dissolveSession" | "removeMember" | "removeConsumer" => Value::Null,
        _ => panic!("no body for {operation}"),
    }
}

/// The path of an operation that succeeds.
fn path(operation: &str, template: &str, session: &str) -> String {
    let path = template.replace("/v1/sessions/{sessionId}", session);
    let path = path.replace("{account}", "b").replace("{name}", CONSUMER);
    match operation {
        "dissolveSession" | "removeMember" => format!("{path}?operator=a"),
        "diffSession" => format!("{path}?from=1&to=2"),
        _ => path,
    }
}

async fn call(
    app: &TestApp,
    method: &Method,
    path: &str,
    body: &Value,
    headers: &[(&str, &str)],
) -> Response {
    let builder = request(app, method.clone(), path);
    let builder =
        headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    let builder = if body.is_null() { builder } else { builder.json(body) };
    builder.send().await.unwrap()
}

/// A session at version 2.
async fn second_version(app: &TestApp) -> (String, Value) {
    let (session, _) = create_session(app, &["a", "b", "c", "d"]).await;
    let body = json!({ "operator": "a", "title": "second" });
    let before = result(send(app, Method::PATCH, &session, &body).await).await;
    assert_eq!(before["version"], 2);
    (session, before)
}

async fn put_consumer(app: &TestApp) {
    let path = format!("/v1/consumers/{CONSUMER}");
    let response = request(app, Method::PUT, &path).json(&json!({})).send().await.unwrap();
    assert!(response.status().is_success(), "{response:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn false_condition_stops_every_change() {
    let app = spawn_app().await;
    let (session, before) = second_version(&app).await;
    put_consumer(&app).await;
    for (method, template, operation) in operations() {
        if method == Method::GET {
            continue;
        }
        let name = operation["operationId"].as_str().unwrap();
        let path = path(name, &template, &session);
        let body = body(name, &before["sessionId"]);
        for (header, value) in FALSE_CONDITIONS {
            let response = call(&app, &method, &path, &body, &[(header, value)]).await;
            let tag = response.headers().get("etag").cloned();
            let (status, code, rest) = problem(response).await;
            let has_no_version =
                ["createSession", "batchSessions", "batchGetSessions", "compareSessions"]
                    .contains(&name)
                    || template.starts_with("/v1/consumers");
            let is_of_member = ["addMember", "removeMember"].contains(&name);
            let expected = match (header, value) {
                _ if has_no_version => (400, "invalid_header"),
                ("If-None-Match", "*") if is_of_member => (400, "invalid_header"),
                ("If-Match", _) => (412, "version_conflict"),
                ("If-None-Match", _) => (412, "precondition_failed"),
                _ => (400, "invalid_header"),
            };
            assert_eq!((status, code.as_str()), expected, "{name}, {header}: {value}");
            assert_eq!(rest["field"], header, "{name}");
            if status == 412 {
                assert_eq!(
                    (&rest["currentVersion"], tag.unwrap()),
                    (&json!(2), "\"2\"".parse().unwrap())
                );
            }
        }
    }
    assert_eq!(get(&app, &session).await, before);
    assert_eq!(store::count_sessions(&app.pool).await, 1);
    assert_eq!(store::count_events(&app.pool).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_of_every_read_are_evaluated() {
    let app = spawn_app().await;
    let (session, _) = second_version(&app).await;
    put_consumer(&app).await;
    let refused = |status, code: &str| (status, Some(code.to_owned()));
    for (method, template, operation) in operations() {
        if method != Method::GET {
            continue;
        }
        let name = operation["operationId"].as_str().unwrap();
        let path = path(name, &template, &session);
        let is_tagged = name == "getSession";
        let matching = if is_tagged { 304 } else { 200 };
        for (headers, expected) in [
            (&[][..], (200, None)),
            (&[("If-None-Match", "\"2\"")], (matching, None)),
            (&[("If-None-Match", "W/\"2\", \"7\"")], (matching, None)),
            (&[("If-None-Match", "\"1\"")], (200, None)),
            (&[("If-None-Match", "*")], (304, None)),
            (&[("If-Match", "*")], (200, None)),
            (&[("If-Match", "\"1\"")], refused(412, "precondition_failed")),
            (&[("If-Match", "W/\"2\"")], refused(412, "precondition_failed")),
            (&[("If-Match", "2")], refused(400, "invalid_header")),
            (&[("If-Unmodified-Since", DATE)], refused(400, "invalid_header")),
            (&[("If-Modified-Since", DATE)], refused(400, "invalid_header")),
            (&[("If-Modified-Since", DATE), ("If-None-Match", "\"1\"")], (200, None)),
            // Parts of a representation cannot be requested, so the whole one is sent.
            (&[("If-Range", "\"1\""), ("Range", "bytes=0-1")], (200, None)),
        ] {
            let head = call(&app, &Method::HEAD, &path, &Value::Null, headers).await;
            let response = call(&app, &Method::GET, &path, &Value::Null, headers).await;
            assert_eq!(head.status(), response.status(), "{name} {headers:?}");
            let status = response.status().as_u16();
            let code = match status {
                200 => {
                    assert!(!response.text().await.unwrap().is_empty());
                    None
                }
                304 => {
                    assert_eq!(response.headers().contains_key("etag"), is_tagged);
                    assert!(response.text().await.unwrap().is_empty());
                    None
                }
                _ => Some(problem(response).await.1),
            };
            assert_eq!((status, code), expected, "{name} {headers:?}");
        }
    }
    // A request that fails for another reason gets that error, and not 412.
    let (_, other_app) = app.another_app(BUIN, &[]).await;
    for (key, path, status) in [
        (&app.api_key, "/v1/sessions/8ad595f373b34b5690aff336f9222fc5/members", 404),
        (&other_app, "/v1/sessions", 403),
    ] {
        for (header, value) in FALSE_CONDITIONS {
            let builder = app.client.request(Method::GET, path).bearer_auth(key);
            let response = builder.header(header, value).send().await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{header}: {value}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tag_that_a_proxy_changed_is_named() {
    let app = spawn_app().await;
    let (session, before) = second_version(&app).await;
    for tag in ["2-gzip", "2;gzip", "2--gzip", "2-br", "x"] {
        let headers = &[("If-Match", &*format!("\"{tag}\""))];
        let body = json!({ "operator": "a", "title": "after" });
        let changed = call(&app, &Method::PATCH, &session, &body, headers).await;
        let (status, code, rest) = problem(changed).await;
        assert_eq!((status, &*code, &rest["currentVersion"]), (412, "version_conflict", &json!(2)));
        let detail = format!(
            "If-Match: \"{tag}\" is not a tag of Muster, which is a version such as \"2\"; a proxy that \
             compresses responses changes tags; the current version is 2"
        );
        assert_eq!(rest["detail"], detail);
        let read = call(&app, &Method::GET, &session, &Value::Null, headers).await;
        let (status, code, rest) = problem(read).await;
        assert_eq!((status, &*code), (412, "precondition_failed"));
        let detail = rest["detail"].as_str().unwrap();
        assert!(detail.contains("a proxy that compresses responses changes tags"), "{detail}");
    }
    assert_eq!(get(&app, &session).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn true_conditions_let_a_change_pass() {
    let app = spawn_app().await;
    let (session, _) = second_version(&app).await;
    for (version, headers) in [
        (3, &[("If-None-Match", "\"1\", \"7\"")][..]),
        (4, &[("If-Match", "\"3\""), ("If-None-Match", "\"4\"")]),
        // `If-Match` replaces the date.
        (5, &[("If-Match", "\"4\""), ("If-Unmodified-Since", "Mon, 10 Jun 2019 06:13:20 GMT")]),
    ] {
        let body = json!({ "operator": "a", "title": version.to_string() });
        let response = call(&app, &Method::PATCH, &session, &body, headers).await;
        assert_eq!(response.status(), StatusCode::OK, "{headers:?}");
        assert_eq!(result(response).await["version"], version);
    }
    // The session is compared before the result that nothing changes, and in a dry run.
    let body = json!({ "operator": "a" });
    for path in [session.clone(), format!("{session}?dryRun=true")] {
        let response =
            call(&app, &Method::PATCH, &path, &body, &[("If-None-Match", "\"5\"")]).await;
        assert_eq!(problem(response).await.1, "precondition_failed", "{path}");
    }
}
