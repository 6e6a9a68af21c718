//! Authentication and permissions: only valid API keys are accepted, each for its operations.

use std::collections::{BTreeMap, BTreeSet};

use muster::domain::Permission;
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{create_session, operations, problem, request};
use crate::harness::{BUIN, new_app, spawn_app};

const LIMITS: &str = "/v1/limits";

/// The permission that each operation needs. `None`: any valid API key is enough.
const REQUIRED_PERMISSIONS: &[(&str, Option<Permission>)] = &[
    ("acknowledgeEvents", Some(Permission::SessionsRead)),
    ("addMember", Some(Permission::SessionsWrite)),
    ("batchGetSessions", Some(Permission::SessionsRead)),
    ("batchSessions", Some(Permission::SessionsWrite)),
    ("compareSessions", Some(Permission::SessionsRead)),
    ("createSession", Some(Permission::SessionsWrite)),
    ("diffSession", Some(Permission::SessionsRead)),
    ("dissolveSession", Some(Permission::SessionsWrite)),
    ("fetchEvents", Some(Permission::SessionsRead)),
    ("followEvents", Some(Permission::SessionsRead)),
    ("getConsumer", Some(Permission::SessionsRead)),
    ("getLimits", None),
    ("getMember", Some(Permission::SessionsRead)),
    ("getSession", Some(Permission::SessionsRead)),
    ("listConsumers", Some(Permission::SessionsRead)),
    ("listEvents", Some(Permission::SessionsRead)),
    ("listMembers", Some(Permission::SessionsRead)),
    ("listSessions", Some(Permission::SessionsRead)),
    ("putConsumer", Some(Permission::SessionsRead)),
    ("releaseEvents", Some(Permission::SessionsRead)),
    ("removeConsumer", Some(Permission::SessionsRead)),
    ("removeMember", Some(Permission::SessionsWrite)),
    ("replaceMembers", Some(Permission::SessionsWrite)),
    ("resetConsumer", Some(Permission::SessionsRead)),
    ("restoreSession", Some(Permission::SessionsWrite)),
    ("revertSession", Some(Permission::SessionsWrite)),
    ("updateSession", Some(Permission::SessionsWrite)),
];

#[tokio::test(flavor = "multi_thread")]
async fn valid_api_keys_are_accepted() {
    let app = spawn_app().await;
    let (_, without_permissions) = app.another_app(BUIN, &[]).await;
    let (_, of_another_enterprise) = app.another_app(BUIN + 1, &[Permission::Callbacks]).await;
    for key in [&app.api_key, &without_permissions, &of_another_enterprise] {
        for scheme in ["Bearer", "bearer"] {
            let builder = app.client.request(Method::GET, LIMITS);
            let builder = builder.header(AUTHORIZATION, format!("{scheme} {key}"));
            assert_eq!(builder.send().await.unwrap().status(), StatusCode::OK);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_credentials_are_refused() {
    let app = spawn_app().await;
    let token = app.client.token().await;
    let mut disabled = new_app(BUIN, &[Permission::SessionsRead]);
    disabled.app.disabled = true;
    let (_, of_disabled) = app.add(&disabled).await;
    let unknown = muster::wire::ApiKey::generate();
    let known = "the API key is unknown or revoked, or its app is disabled";
    let no_key = "not an API key, which begins with msk_";
    for (header, code, why) in [
        (None, "missing_api_key", "must be `Bearer` and an API key"),
        (Some(String::new()), "missing_api_key", "must be `Bearer` and an API key"),
        (Some("Bearer ".to_owned()), "missing_api_key", "must be `Bearer` and an API key"),
        (Some(app.api_key.clone()), "missing_api_key", "must be `Bearer` and an API key"),
        (
            Some("Basic bXNrXzptc2tf".to_owned()),
            "missing_api_key",
            "must be `Bearer` and an API key",
        ),
        (Some(format!("Bearer {}", unknown.reveal())), "invalid_api_key", known),
        (Some(format!("Bearer {of_disabled}")), "invalid_api_key", known),
        (Some(format!("Bearer {}x", app.api_key)), "invalid_api_key", known),
        // Access tokens are valid for `/cgi` only.
        (Some(format!("Bearer {token}")), "invalid_api_key", no_key),
    ] {
        // A valid key in the query makes no difference.
        let path = format!("{LIMITS}?accessToken={}", app.api_key);
        let mut builder = app.client.request(Method::GET, &path);
        if let Some(header) = &header {
            builder = builder.header(AUTHORIZATION, header);
        }
        let response = builder.send().await.unwrap();
        let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
        let rest = json!({ "detail": format!("Authorization: {why}"), "field": "Authorization" });
        assert_eq!(problem(response).await, (401, code.to_owned(), rest), "{header:?}");
        let is_invalid = challenge.contains("invalid_token");
        assert!(challenge.starts_with("Bearer"), "{challenge}");
        assert_eq!(is_invalid, code == "invalid_api_key", "{challenge}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_needs_its_permission() {
    let app = spawn_app().await;
    let (session, _) = create_session(&app, &["a", "b", "c"]).await;
    let mut keys = Vec::new();
    for permission in Permission::ALL {
        keys.push((permission, app.another_app(BUIN, &[permission]).await.1));
    }
    let required: BTreeMap<_, _> = REQUIRED_PERMISSIONS.iter().copied().collect();
    let mut called = BTreeSet::new();
    for (method, path, operation) in operations() {
        if operation["security"] == json!([{}]) {
            continue;
        }
        let id = operation["operationId"].as_str().unwrap();
        let required = required.get(id);
        let required = required.unwrap_or_else(|| panic!("REQUIRED_PERMISSIONS has no row {id}"));
        let path = path.replace("/v1/sessions/{sessionId}", &session).replace("{account}", "b");
        let path = path.replace("{name}", "mirror");
        for (permission, key) in &keys {
            // Without an operator, no request is refused for another reason with 403.
            let builder = app.client.request(method.clone(), &path).bearer_auth(key);
            let response = builder.json(&json!({})).send().await.unwrap();
            let is_allowed = required
                .is_none_or(|needed| [needed, Permission::SessionsAdmin].contains(permission));
            let is_refused = response.status() == StatusCode::FORBIDDEN;
            assert_eq!(is_refused, !is_allowed, "{id} with {permission:?}");
            if is_refused {
                assert_eq!(problem(response).await.1, "missing_permission", "{id}");
            }
        }
        called.insert(id.to_owned());
    }
    assert!(required.keys().all(|id| called.contains(*id)), "a row has no operation: {called:?}");
}

/// A word that only the session holds, not the request.
const HIDDEN: &str = "hidden";

/// The outcome of a valid request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Access {
    /// The response may show the session.
    Full,
    /// The request is executed, and the response shows nothing of the session.
    Blind,
    /// This permission is missing.
    Missing(Permission),
}

/// The query and the body of a valid request, for each operation. `null`: the operation has no body.
fn valid_request(operation: &str, id: &serde_json::Value) -> (&'static str, serde_json::Value) {
    let none = serde_json::Value::Null;
    match operation {
        "addMember" => ("", json!({ "operator": "a" })),
        "batchGetSessions" => ("", json!({ "ids": [id] })),
        "batchSessions" => {
            let update = json!({ "sessionId": id, "operator": "a", "addMember": ["new"] });
            ("", json!({ "items": [{ "update": update }] }))
        }
        "putConsumer" | "releaseEvents" => ("", json!({})),
        "fetchEvents" => ("", json!({ "member": "m" })),
        "acknowledgeEvents" => ("", json!({ "member": "m", "cursors": [] })),
        "resetConsumer" => ("", json!({ "start": "0" })),
        "createSession" => ("", json!({ "operator": "a", "title": "t", "member": ["b", "c"] })),
        "diffSession" => ("?from=1&to=1", none),
        "dissolveSession" | "removeMember" => ("?operator=a", none),
        "replaceMembers" => ("", json!({ "operator": "a", "member": ["a", "b", "c"] })),
        "restoreSession" => ("", json!({ "operator": "a" })),
        "revertSession" => ("", json!({ "operator": "a", "version": 1 })),
        "updateSession" => ("", json!({ "operator": "a", "addMember": ["new"] })),
        _ => ("", none),
    }
}

/// Every operation with every set of permissions: executed or refused, with or without the content of
/// the session.
#[tokio::test(flavor = "multi_thread")]
async fn every_set_of_permissions_allows_its_operations() {
    use Permission::{SessionsAdmin, SessionsRead, SessionsWrite};
    let app = spawn_app().await;
    let required: BTreeMap<_, _> = REQUIRED_PERMISSIONS.iter().copied().collect();
    // The changes that can only read, beside the operations.
    let dry = ["dissolveSession", "replaceMembers", "restoreSession", "revertSession"];
    let dry = [&dry[..], &["updateSession", "addMember", "removeMember"]].concat();
    let mut cells = 0;
    for number in 0..1 << Permission::ALL.len() {
        let granted: Vec<Permission> = Permission::ALL
            .into_iter()
            .enumerate()
            .filter_map(|(bit, permission)| ((number >> bit) & 1 == 1).then_some(permission))
            .collect();
        let (_, key) = app.another_app(BUIN, &granted).await;
        let has = |permission| granted.contains(&permission);
        let reads = has(SessionsRead) || has(SessionsAdmin);
        for (method, template, operation) in operations() {
            let name = operation["operationId"].as_str().unwrap();
            let members = json!(["b", "c", HIDDEN]);
            let new = json!({ "operator": "a", "title": HIDDEN, "member": members });
            let created = super::send(&app, Method::POST, "/v1/sessions", &new).await;
            let session = created.headers()["location"].to_str().unwrap().to_owned();
            let created = super::result(created).await;
            let path = template.replace("/v1/sessions/{sessionId}", &session);
            let path = path.replace("{account}", "b").replace("{name}", "mirror");
            if template.contains("{name}") && reads {
                let consumer = app.client.request(Method::PUT, "/v1/consumers/mirror");
                super::result(consumer.bearer_auth(&key).json(&json!({})).send().await.unwrap())
                    .await;
            }
            let (query, body) = valid_request(name, &created["sessionId"]);
            let mut calls = vec![(query.to_owned(), body.clone(), false)];
            if dry.contains(&name) {
                let sign = if query.is_empty() { '?' } else { '&' };
                calls.push((format!("{query}{sign}dryRun=true"), body, true));
            }
            if name == "updateSession" {
                let reason = json!({ "operator": "a", "reason": "why" });
                calls.push((String::new(), json!({ "operator": "a" }), true));
                calls.push((String::new(), reason, true));
            }
            for (query, body, only_reads) in calls {
                let builder = app.client.request(method.clone(), &format!("{path}{query}"));
                let builder = builder.bearer_auth(&key);
                let builder = if body.is_null() { builder } else { builder.json(&body) };
                let response = builder.send().await.unwrap();
                let expected = match required.get(name).copied().flatten() {
                    None => Access::Full,
                    Some(needed) if !has(needed) && !has(SessionsAdmin) => Access::Missing(needed),
                    Some(SessionsWrite) if name == "createSession" => Access::Blind,
                    Some(SessionsWrite) if !reads && only_reads => Access::Missing(SessionsRead),
                    Some(SessionsWrite) if !reads => Access::Blind,
                    Some(_) => Access::Full,
                };
                let cell = format!("{name}{query} {body} with {granted:?}");
                let status = response.status();
                let text = response.text().await.unwrap();
                let found = match expected {
                    Access::Missing(permission) => {
                        assert_eq!(status, StatusCode::FORBIDDEN, "{cell}: {text}");
                        assert!(
                            text.contains(&format!("lacks the permission {permission}")),
                            "{cell}"
                        );
                        false
                    }
                    Access::Full | Access::Blind => {
                        assert!(status.is_success(), "{cell}: {text}");
                        text.contains(HIDDEN)
                    }
                };
                assert!(!found || expected == Access::Full, "{cell}: {text}");
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 16 * (operations().len() + dry.len() + 2));
}

/// The same for a repeated request, a change without effect, and a batch.
#[tokio::test(flavor = "multi_thread")]
async fn replayed_and_unchanged_results_are_withheld_as_well() {
    let app = spawn_app().await;
    let (session, created) = create_session(&app, &["a", "b", "c"]).await;
    let (_, writer) = app.another_app(BUIN, &[Permission::SessionsWrite]).await;
    let patch = async |body: serde_json::Value| {
        let builder = app.client.request(Method::PATCH, &session).bearer_auth(&writer);
        let response = builder.header("Idempotency-Key", "k").json(&body).send().await.unwrap();
        let tag = response.headers()["etag"].to_str().unwrap().to_owned();
        let replayed = response.headers().contains_key("idempotency-replayed");
        (tag, replayed, super::result(response).await)
    };
    let version = |number: i64| json!({ "sessionId": created["sessionId"], "version": number });
    let change = json!({ "operator": "a", "title": "after" });
    assert_eq!(patch(change.clone()).await, ("\"2\"".to_owned(), false, version(2)));
    assert_eq!(patch(change.clone()).await, ("\"2\"".to_owned(), true, version(2)));
    let builder = app.client.request(Method::PATCH, &session).bearer_auth(&writer);
    let unchanged = super::result(builder.json(&change).send().await.unwrap()).await;
    assert_eq!(unchanged, version(2));
    let update = json!({ "sessionId": created["sessionId"], "operator": "a", "addMember": ["d"] });
    let empty = json!({ "sessionId": created["sessionId"], "operator": "a" });
    let items = json!({ "items": [{ "update": update }, { "update": empty }] });
    let builder = app.client.request(Method::POST, "/v1/sessions/batch").bearer_auth(&writer);
    let done = super::result(builder.json(&items).send().await.unwrap()).await;
    let mut withheld = version(3);
    withheld["status"] = json!(200);
    assert_eq!(done["items"][0], withheld);
    assert_eq!(done["items"][1]["error"]["code"], "missing_permission");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_permission_is_enough_for_a_call() {
    let app = spawn_app().await;
    let (session, _) = create_session(&app, &["a", "b", "c"]).await;
    let (_, reader) = app.another_app(BUIN, &[Permission::SessionsRead]).await;
    let (_, writer) = app.another_app(BUIN, &[Permission::SessionsWrite]).await;
    for (method, path, key) in [
        (Method::GET, session.clone(), &reader),
        (Method::GET, format!("{session}/events"), &reader),
        (Method::GET, format!("{session}/diff?from=1&to=1"), &reader),
        (Method::DELETE, format!("{session}/members/x?operator=a"), &writer),
    ] {
        let response = app.client.request(method, &path).bearer_auth(key).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_database_gives_retry_after() {
    let app = spawn_app().await;
    app.pool.close().await;
    let unknown = muster::wire::ApiKey::generate();
    let builder = app.client.request(Method::GET, LIMITS).bearer_auth(unknown.reveal());
    let response = builder.send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    let rest = json!({ "detail": "the service is not available, try again" });
    assert_eq!(problem(response).await, (503, "unavailable".to_owned(), rest));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_are_not_found_with_a_key() {
    let app = spawn_app().await;
    for path in ["/v1", "/v1/", "/v1/nothing", "/v1/limits/", "/v1/%ff", "/v1/docs/nothing"] {
        for method in [Method::GET, Method::POST, Method::HEAD] {
            let response = request(&app, method.clone(), path).send().await.unwrap();
            if method == Method::HEAD {
                assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
            } else if (path, &method) != ("/v1/docs/nothing", &Method::POST) {
                let (status, code, _) = problem(response).await;
                assert_eq!((status, code.as_str()), (404, "endpoint_not_found"), "{path}");
            }
        }
    }
}
