//! Dissolving a session, restoring it, and going back to a version.

use reqwest::Method;
use serde_json::{Value, json};

use super::{create_session, get, problem, refusal, refused, request, result, send};
use crate::harness::{TestApp, spawn_app};

async fn dissolve(app: &TestApp, path: &str, query: &str) -> reqwest::Response {
    request(app, Method::DELETE, &format!("{path}?{query}")).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn dissolved_session_can_be_read_but_not_changed() {
    let app = spawn_app().await;
    let (path, before) = create_session(&app, &["a", "b", "c"]).await;
    let (status, code, _) = problem(dissolve(&app, &path, "operator=b").await).await;
    assert_eq!((status, code.as_str()), (403, "not_the_owner"));
    let response = dissolve(&app, &path, "operator=a&reason=it+is+over").await;
    assert_eq!(response.headers()["etag"], "\"2\"");
    let session = result(response).await;
    assert_eq!((&session["state"], &session["version"]), (&json!("dissolved"), &json!(2)));
    assert_eq!(result(dissolve(&app, &path, "operator=a").await).await, session);
    assert_eq!(get(&app, &path).await, session);
    assert_eq!(get(&app, &format!("{path}?version=1")).await, before);

    let by = json!({ "operator": "a", "member": ["a"] });
    for (method, call, body) in [
        (Method::PATCH, "", json!({ "operator": "a", "title": "late" })),
        (Method::PUT, "/members", by),
        (Method::PUT, "/members/d", json!({ "operator": "a" })),
        (Method::POST, "/revert", json!({ "operator": "a", "version": 1 })),
    ] {
        let found = refused(&app, method, &format!("{path}{call}"), &body).await;
        assert_eq!(found, refusal(410, "session_dissolved", "sessionId"), "{call}");
    }
    let builder = request(&app, Method::DELETE, &format!("{path}/members/b?operator=a"));
    assert_eq!(problem(builder.send().await.unwrap()).await.0, 410);
    // `/cgi` refuses the change as well.
    let answer = app.change(&session, "a", json!({ "title": "late" })).await;
    assert_eq!(answer["errcode"], 400_006, "{answer}");
    assert_eq!(app.current(&session).await["version"], 2);

    let restore = format!("{path}/restore");
    let found = refused(&app, Method::POST, &restore, &json!({ "operator": "b" })).await;
    assert_eq!(found, refusal(403, "not_the_owner", "operator"));
    let body = json!({ "operator": "a", "reason": "too early" });
    let session = result(send(&app, Method::POST, &restore, &body).await).await;
    assert_eq!((&session["state"], &session["version"]), (&json!("active"), &json!(3)));
    assert_eq!(result(send(&app, Method::POST, &restore, &body).await).await, session);
    let answer = app.change(&session, "b", json!({ "title": "in time" })).await;
    assert_eq!((&answer["errcode"], &answer["version"]), (&json!(0), &json!(4)));

    let events = get(&app, &format!("{path}/events")).await;
    let values = |name: &str| -> Vec<Value> {
        events["items"].as_array().unwrap().iter().map(|event| event[name].clone()).collect()
    };
    assert_eq!(json!(values("kind")), json!(["created", "dissolved", "restored", "updated"]));
    assert_eq!(json!(values("reason")), json!([null, "it is over", "too early", null]));
    let states: Vec<_> = values("changes").iter().map(|changes| changes["state"].clone()).collect();
    assert_eq!(json!(states), json!(["active", "dissolved", "active", null]));
}

#[tokio::test(flavor = "multi_thread")]
async fn revert_errors_name_the_version_field() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["a", "b", "c"]).await;
    let body = json!({ "operator": "a", "addMember": ["d"] });
    result(send(&app, Method::PATCH, &path, &body).await).await;
    let body = json!({ "operator": "b", "version": 1 });
    let found = refused(&app, Method::POST, &format!("{path}/revert"), &body).await;
    assert_eq!(found, refusal(403, "not_the_owner", "version"));
}

#[tokio::test(flavor = "multi_thread")]
async fn revert_restores_a_past_version() {
    let app = spawn_app().await;
    let (path, first) = create_session(&app, &["a", "b", "c", "d"]).await;
    let body = json!({
        "operator": "a", "title": "after", "owner": "b", "addMember": ["e"], "delMember": ["c"],
        "attributes": { "x": 1 }
    });
    result(send(&app, Method::PATCH, &path, &body).await).await;
    let revert = format!("{path}/revert");
    let found =
        refused(&app, Method::POST, &revert, &json!({ "operator": "a", "version": 1 })).await;
    assert_eq!((found.0, found.1.as_str()), (403, "not_the_owner"));
    let body = json!({ "operator": "b", "version": 1, "reason": "a mistake" });
    let response = send(&app, Method::POST, &revert, &body).await;
    assert_eq!(response.headers()["etag"], "\"3\"");
    let session = result(response).await;
    for name in ["title", "owner", "member", "attributes", "state", "memberCount"] {
        assert_eq!(session[name], first[name], "{name}");
    }
    assert_eq!(session["version"], 3);
    for (body, status, code, field) in [
        (json!({ "operator": "a", "version": 9 }), 404, "version_not_found", "version"),
        (json!({ "operator": "a", "version": 0 }), 400, "invalid_field", "version"),
        (json!({ "operator": "a" }), 400, "missing_field", "version"),
        (json!({ "operator": "x", "version": 1 }), 403, "not_a_member", "operator"),
    ] {
        let found = refused(&app, Method::POST, &revert, &body).await;
        assert_eq!(found, refusal(status, code, field), "{body}");
    }
}
