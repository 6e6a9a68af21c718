//! `/v1/sessions`: create, read, change.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{create_session, get, operations, problem, refusal, refused, request, result, send};
use crate::harness::{BUIN, TestApp, spawn_app, store, wait_until_equal};

const SESSIONS: &str = "/v1/sessions";
const NOWHERE: &str = "/v1/sessions/8ad595f3-73b3-4b56-90af-f336f9222fc5";

async fn sessions(app: &TestApp) -> i64 {
    store::count_sessions(&app.pool).await
}

#[tokio::test(flavor = "multi_thread")]
async fn session_is_created_and_read() {
    let app = spawn_app().await;
    let body = json!({
        "operator": "a", "title": "项目", "member": ["b", "a", "c", "b"], "type": "multi",
        "attributes": { "goal": 2, "gone": null, "list": [null, { "x": 1.5 }] }, "reason": "why"
    });
    let response = send(&app, Method::POST, SESSIONS, &body).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let headers = response.headers().clone();
    assert_eq!(headers["etag"], "\"1\"");
    assert!(!headers.contains_key("idempotency-replayed"));
    let session: Value = response.json().await.unwrap();
    let id = session["sessionId"].as_str().unwrap();
    let path = format!("/v1/sessions/{}", id.trim_matches(['{', '}']).to_lowercase());
    assert_eq!(headers["location"], path.as_str());
    let complete = json!({
        "sessionId": id, "title": "项目", "owner": "a", "version": 1, "type": "multi",
        "member": ["a", "b", "c"], "activeTime": 1_718_000_000,
        "createdAt": "2024-06-10T06:13:20.000000Z", "updatedAt": "2024-06-10T06:13:20.000000Z",
        "state": "active", "attributes": { "goal": 2, "list": [null, { "x": 1.5 }] },
        "memberCount": 3
    });
    assert_eq!(session, complete);
    assert_eq!(id, id.to_uppercase());
    for path in [&path, &format!("{SESSIONS}/%7B{}%7D", &id[1..37])] {
        let response = request(&app, Method::GET, path).send().await.unwrap();
        assert_eq!(response.headers()["etag"], "\"1\"");
        assert_eq!(result(response).await, complete);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_session_is_not_created() {
    let app = spawn_app().await;
    let usual = json!({ "operator": "a", "title": "t", "member": ["b", "c"] });
    for (change, status, code, field) in [
        (json!({ "title": "" }), 400, "invalid_field", "title"),
        (json!({ "title": "x".repeat(65) }), 400, "invalid_field", "title"),
        (json!({ "title": null }), 400, "invalid_field", "title"),
        (json!({ "operator": "\n" }), 400, "invalid_field", "operator"),
        (json!({ "member": ["b", ""] }), 400, "invalid_field", "member[1]"),
        (json!({ "member": [true] }), 400, "invalid_field", "member[0]"),
        (json!({ "type": "pair" }), 400, "invalid_field", "type"),
        (json!({ "reason": " " }), 400, "invalid_field", "reason"),
        (json!({ "attributes": [] }), 400, "invalid_field", "attributes"),
        (json!({ "creator": "a" }), 400, "unknown_field", "creator"),
        (json!({ "member": ["a", "b"] }), 422, "too_few_members", "member"),
        (
            json!({ "attributes": { "a": "x".repeat(16_384) } }),
            422,
            "attributes_too_large",
            "attributes",
        ),
    ] {
        let mut body = usual.clone();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let found = refused(&app, Method::POST, SESSIONS, &body).await;
        assert_eq!(found, refusal(status, code, field), "{change}");
    }
    for (body, code, field) in [
        (r#"{"operator":"a","title":"t"}"#, "missing_field", "member"),
        (r#"{"operator":"a","title":"t","title":"t","member":[]}"#, "duplicate_field", "title"),
        (
            r#"{"operator":"a","title":"t","member":["b","c"],"attributes":{"x":{"a":1,"a":2}}}"#,
            "duplicate_field",
            "attributes.x.a",
        ),
        ("[]", "malformed_body", "body"),
    ] {
        let builder = request(&app, Method::POST, SESSIONS).body(body);
        let (status, found, rest) = problem(builder.send().await.unwrap()).await;
        assert_eq!((status, found.as_str(), &rest["field"]), (400, code, &json!(field)));
    }
    let found = refused(&app, Method::POST, "/v1/sessions?dryRun=maybe", &usual).await;
    assert_eq!(found, refusal(400, "invalid_parameter", "dryRun"));
    assert_eq!(sessions(&app).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn create_refuses_if_match() {
    let app = spawn_app().await;
    let body = json!({ "operator": "a", "title": "t", "member": ["b", "c"] });
    for tag in ["*", "\"1\""] {
        let builder = request(&app, Method::POST, SESSIONS).header("If-Match", tag).json(&body);
        let (status, code, rest) = problem(builder.send().await.unwrap()).await;
        let found = (status, code.as_str(), &rest["field"]);
        assert_eq!(found, (400, "invalid_header", &json!("If-Match")));
    }
    assert_eq!(sessions(&app).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_members_error_states_the_limit() {
    let app = spawn_app_of_four().await;
    let body = json!({ "operator": "a", "title": "t", "member": ["b", "c", "d", "e"] });
    let (status, code, rest) = problem(send(&app, Method::POST, SESSIONS, &body).await).await;
    assert_eq!((status, code.as_str()), (422, "too_many_members"));
    assert_eq!((&rest["limit"], &rest["got"]), (&json!(4), &json!(5)));
}

async fn spawn_app_of_four() -> TestApp {
    crate::harness::spawn_app_with(|settings| settings.limits.max_members = 4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn dry_run_stores_nothing() {
    let app = spawn_app().await;
    let body = json!({ "operator": "a", "title": "t", "member": ["b", "c"] });
    let builder = request(&app, Method::POST, "/v1/sessions?dryRun=true").json(&body);
    let response = builder.header("Idempotency-Key", "k").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key("location"));
    assert!(!response.headers().contains_key("etag"));
    assert_eq!(result(response).await["version"], 1);
    assert_eq!(sessions(&app).await, 0);

    let (path, before) = create_session(&app, &["a", "b", "c"]).await;
    for (method, call, body) in [
        (Method::PATCH, "", json!({ "operator": "a", "title": "after" })),
        (Method::PUT, "/members", json!({ "operator": "a", "member": ["a", "b", "c", "d"] })),
        (Method::PUT, "/members/d", json!({ "operator": "a" })),
    ] {
        let response = send(&app, method, &format!("{path}{call}?dryRun=true"), &body).await;
        assert!(!response.headers().contains_key("etag"));
        assert_eq!(result(response).await["version"], 2, "{call}");
    }
    let builder = request(&app, Method::DELETE, &format!("{path}?operator=a&dryRun=true"));
    assert_eq!(result(builder.send().await.unwrap()).await["state"], "dissolved");
    // A dry run is refused like the real request.
    let late = json!({ "operator": "x", "title": "after" });
    let found = refused(&app, Method::PATCH, &format!("{path}?dryRun=true"), &late).await;
    assert_eq!(found, refusal(403, "not_a_member", "operator"));
    assert_eq!(get(&app, &path).await, before);
    assert_eq!(store::count_idempotency_keys(&app.pool).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn if_none_match_returns_not_modified() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["a", "b", "c"]).await;
    let get_if_none_match = async |path: &str, tags: &str| {
        let builder = request(&app, Method::GET, path).header("If-None-Match", tags);
        let response = builder.send().await.unwrap();
        let tag = response.headers()["etag"].to_str().unwrap().to_owned();
        (response.status().as_u16(), tag, response.text().await.unwrap().is_empty())
    };
    let tag = |tag: &str| tag.to_owned();
    assert_eq!(get_if_none_match(&path, "\"1\"").await, (304, tag("\"1\""), true));
    assert_eq!(get_if_none_match(&path, "W/\"1\", \"7\"").await, (304, tag("\"1\""), true));
    assert_eq!(get_if_none_match(&path, "\"2\"").await, (200, tag("\"1\""), false));
    let body = json!({ "operator": "a", "title": "after" });
    result(send(&app, Method::PATCH, &path, &body).await).await;
    assert_eq!(get_if_none_match(&path, "\"1\"").await, (200, tag("\"2\""), false));
    assert_eq!(
        get_if_none_match(&format!("{path}?version=1"), "\"1\"").await,
        (304, tag("\"1\""), true)
    );
    let (status, code, _) = problem(
        request(&app, Method::GET, &path).header("If-None-Match", "1").send().await.unwrap(),
    )
    .await;
    assert_eq!((status, code.as_str()), (400, "invalid_header"));
}

#[tokio::test(flavor = "multi_thread")]
async fn if_match_is_enforced() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["a", "b", "c"]).await;
    let change = async |tags: &str, title: &str| {
        let body = json!({ "operator": "b", "title": title });
        request(&app, Method::PATCH, &path)
            .header("If-Match", tags)
            .json(&body)
            .send()
            .await
            .unwrap()
    };
    let response = change("\"1\"", "two").await;
    assert_eq!(response.headers()["etag"], "\"2\"");
    assert_eq!(result(response).await["title"], "two");
    assert_eq!(result(change("\"7\", \"2\"", "three").await).await["version"], 3);
    assert_eq!(result(change("*", "four").await).await["version"], 4);
    for tags in ["\"3\"", "W/\"4\"", "\"04\"", ""] {
        let response = change(tags, "five").await;
        assert_eq!(response.headers()["etag"], "\"4\"", "{tags}");
        let (status, code, rest) = problem(response).await;
        assert_eq!((status, code.as_str()), (412, "version_conflict"), "{tags}");
        assert_eq!((&rest["currentVersion"], &rest["field"]), (&json!(4), &json!("If-Match")));
        let expected = match tags {
            "\"3\"" => "expected 3",
            "W/\"4\"" => {
                "a weak tag such as W/\"4\" never matches; a proxy that compresses responses makes \
                 tags weak"
            }
            _ => "expected a version that does not exist",
        };
        let sign = if tags.starts_with('W') { ';' } else { ',' };
        let detail = format!("If-Match: {expected}{sign} the current version is 4");
        assert_eq!(rest["detail"], detail);
    }
    // Every other change checks `If-Match` as well.
    let back = json!({ "operator": "a", "version": 1 });
    let members = json!({ "operator": "a", "member": ["a", "b", "d"] });
    for (method, call, body) in [
        (Method::PUT, "/members", &members),
        (Method::PUT, "/members/d", &json!({ "operator": "a" })),
        (Method::DELETE, "/members/c?operator=a", &Value::Null),
        (Method::POST, "/revert", &back),
        (Method::DELETE, "?operator=a", &Value::Null),
        (Method::POST, "/restore", &json!({ "operator": "a" })),
    ] {
        let mut builder =
            request(&app, method, &format!("{path}{call}")).header("If-Match", "\"3\"");
        if !body.is_null() {
            builder = builder.json(body);
        }
        let (status, code, rest) = problem(builder.send().await.unwrap()).await;
        assert_eq!((status, code.as_str()), (412, "version_conflict"), "{call}");
        assert_eq!(rest["field"], "If-Match", "{call}");
    }
    assert_eq!(get(&app, &path).await["version"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_update_changes_several_fields() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["a", "b", "c", "d"]).await;
    app.clock.advance(Duration::from_secs(10));
    let body = json!({
        "operator": "a", "reason": "so", "title": "after", "owner": "e", "addMember": ["e", "b"],
        "delMember": ["c", "x"], "attributes": { "a": { "b": 1, "c": null }, "d": [1] }
    });
    let response = send(&app, Method::PATCH, &path, &body).await;
    assert_eq!(
        (response.status(), &response.headers()["etag"]),
        (StatusCode::OK, &"\"2\"".parse().unwrap())
    );
    let session = result(response).await;
    let names = ["title", "owner", "member", "version", "attributes", "activeTime", "memberCount"];
    let expected = json!(["after", "e", ["a", "b", "d", "e"], 2, { "a": { "b": 1 }, "d": [1] }, 1_718_000_010, 4]);
    assert_eq!(json!(names.map(|name| &session[name])), expected);
    assert_eq!(session["updatedAt"], "2024-06-10T06:13:30.000000Z");

    // Attributes are merged as in a JSON merge patch. Equal values change nothing.
    let body = json!({ "operator": "e", "attributes": { "a": { "x": 2 }, "d": null } });
    let session = result(send(&app, Method::PATCH, &path, &body).await).await;
    assert_eq!(session["attributes"], json!({ "a": { "b": 1, "x": 2 } }));
    let body = json!({ "operator": "e", "title": "after", "addMember": ["a"], "owner": null });
    assert_eq!(result(send(&app, Method::PATCH, &path, &body).await).await, session);
    assert_eq!(
        result(send(&app, Method::PATCH, &path, &json!({ "operator": "b" })).await).await,
        session
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_change_has_no_effect() {
    let app = spawn_app_of_four().await;
    let (path, before) = create_session(&app, &["a", "b", "c"]).await;
    for (body, status, code, field) in [
        (json!({}), 400, "missing_field", "operator"),
        (json!({ "operator": "a", "version": 1 }), 400, "unknown_field", "version"),
        (json!({ "operator": "a", "owner": "" }), 400, "invalid_field", "owner"),
        (json!({ "operator": "a", "addMember": ["\t"] }), 400, "invalid_field", "addMember[0]"),
        (json!({ "operator": "x", "title": "t" }), 403, "not_a_member", "operator"),
        (json!({ "operator": "b", "delMember": ["c"] }), 403, "not_the_owner", "delMember"),
        (json!({ "operator": "b", "owner": "b" }), 403, "not_the_owner", "operator"),
        (json!({ "operator": "a", "owner": "x" }), 422, "owner_not_a_member", "owner"),
        (
            json!({ "operator": "a", "addMember": ["x"], "delMember": ["x"] }),
            422,
            "added_and_removed",
            "delMember",
        ),
        (json!({ "operator": "a", "delMember": ["c"] }), 422, "too_few_members", "member"),
        (json!({ "operator": "a", "addMember": ["d", "e"] }), 422, "too_many_members", "member"),
        (
            json!({ "operator": "a", "attributes": { "a": "x".repeat(16_384) } }),
            422,
            "attributes_too_large",
            "attributes",
        ),
    ] {
        let found = refused(&app, Method::PATCH, &path, &body).await;
        assert_eq!(found, refusal(status, code, field), "{body}");
    }
    assert_eq!(get(&app, &path).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_session_is_reported_alike_everywhere() {
    let app = spawn_app().await;
    let (_, foreign) = app.another_app(BUIN + 1, &muster::domain::Permission::ALL).await;
    let (path, _) = create_session(&app, &["a", "b", "c"]).await;
    let by = json!({ "operator": "a" });
    let calls = [
        (Method::GET, "", None),
        (Method::GET, "?version=1", None),
        (Method::GET, "?at=2030-01-01T00:00:00Z", None),
        (Method::GET, "/events", None),
        (Method::GET, "/diff?from=1&to=1", None),
        (Method::GET, "/members", None),
        (Method::GET, "/members/b", None),
        (Method::PATCH, "", Some(by.clone())),
        (Method::PUT, "/members", Some(json!({ "operator": "a", "member": ["a"] }))),
        (Method::PUT, "/members/b", Some(by.clone())),
        (Method::DELETE, "/members/b?operator=a", None),
        (Method::DELETE, "?operator=a", None),
        (Method::POST, "/restore", Some(by)),
        (Method::POST, "/revert", Some(json!({ "operator": "a", "version": 1 }))),
    ];
    let path_of = |call: &str| call.split('?').next().unwrap().to_owned();
    let called: BTreeSet<_> =
        calls.iter().map(|(method, call, _)| (method.to_string(), path_of(call))).collect();
    let described = operations().into_iter().filter_map(|(method, path, _)| {
        let call = path.strip_prefix("/v1/sessions/{sessionId}")?.replace("{account}", "b");
        Some((method.to_string(), call))
    });
    assert_eq!(called, described.collect(), "each operation on a session needs a row");
    for (method, call, body) in calls {
        for (path, key) in [(NOWHERE, &app.api_key), (path.as_str(), &foreign)] {
            let mut builder = app.client.request(method.clone(), &format!("{path}{call}"));
            if let Some(body) = &body {
                builder = builder.json(body);
            }
            let (status, code, rest) =
                problem(builder.bearer_auth(key).send().await.unwrap()).await;
            let found = (status, code.as_str(), &rest["field"]);
            assert_eq!(found, (404, "session_not_found", &json!("sessionId")), "{method} {call}");
        }
    }
    let (status, code, _) =
        problem(request(&app, Method::GET, "/v1/sessions/5").send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (400, "invalid_session_id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_another_server_become_visible() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["a", "b", "c"]).await;
    let (other, _shutdown_signal) = app.another_instance().await;
    let other_server = app.client.at(other);
    for version in 2..6 {
        let read = other_server.request(Method::GET, &path).bearer_auth(&app.api_key);
        result(read.send().await.unwrap()).await;
        let body = json!({ "operator": "a", "title": format!("{version}") });
        let written = result(send(&app, Method::PATCH, &path, &body).await).await;
        let fresh = other_server.request(Method::GET, &path).bearer_auth(&app.api_key);
        let fresh = fresh.header("Cache-Control", "max-age=0, No-Cache").send().await.unwrap();
        assert_eq!(result(fresh).await, written);
        let get = || async {
            let builder = other_server.request(Method::GET, &path).bearer_auth(&app.api_key);
            result(builder.send().await.unwrap()).await
        };
        wait_until_equal(get, &written).await;
    }
}
