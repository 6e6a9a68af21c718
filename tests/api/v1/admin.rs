//! Apps with `sessions:admin` act without membership, and must give a reason.

use muster::domain::Permission;
use reqwest::Method;
use serde_json::{Value, json};

use super::{create_session, get, problem, result};
use crate::harness::{BUIN, spawn_app};

#[tokio::test(flavor = "multi_thread")]
async fn administrator_needs_a_reason_but_no_membership() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["a", "b", "c", "d"]).await;
    let (admin, key) = app.another_app(BUIN, &[Permission::SessionsAdmin]).await;
    let send = async |method: Method, call: &str, body: Value| {
        let builder = admin.request(method, &format!("{path}{call}")).bearer_auth(&key);
        let builder = if body.is_null() { builder } else { builder.json(&body) };
        builder.send().await.unwrap()
    };
    let calls = |reason: Option<&str>| {
        let body = |mut body: Value| {
            if let Some(reason) = reason {
                body["reason"] = json!(reason);
            }
            body["operator"] = json!("root");
            body
        };
        let query = reason.map(|reason| format!("&reason={reason}")).unwrap_or_default();
        [
            (Method::PATCH, String::new(), body(json!({ "title": "after", "owner": "b" }))),
            (Method::PUT, "/members".to_owned(), body(json!({ "member": ["a", "b", "c"] }))),
            (Method::PUT, "/members/e".to_owned(), body(json!({}))),
            (Method::DELETE, format!("/members/c?operator=root{query}"), Value::Null),
            (Method::POST, "/revert".to_owned(), body(json!({ "version": 1 }))),
            (Method::DELETE, format!("?operator=root{query}"), Value::Null),
            (Method::POST, "/restore".to_owned(), body(json!({}))),
        ]
    };
    for (method, call, body) in calls(None) {
        let (status, code, rest) = problem(send(method, &call, body).await).await;
        let found = (status, code.as_str(), &rest["field"]);
        assert_eq!(found, (422, "missing_reason", &json!("reason")), "{call}");
        let detail = "reason: required for a change with the rights of an administrator, got none";
        assert_eq!(rest["detail"], detail, "{call}");
    }
    assert_eq!(get(&app, &path).await["version"], 1);
    for (place, (method, call, body)) in calls(Some("cleaning")).into_iter().enumerate() {
        let session = result(send(method, &call, body).await).await;
        assert_eq!(session["version"], json!(place + 2), "{call}");
    }
    let events = get(&app, &format!("{path}/events")).await;
    for event in &events["items"].as_array().unwrap()[1..] {
        let fields = ["operator", "appId", "reason"].map(|name| &event[name]);
        assert_eq!(json!(fields), json!(["root", admin.app_id, "cleaning"]));
    }
    // A reason is optional if the operator is a member, even with the app of an administrator.
    let session =
        result(send(Method::PATCH, "", json!({ "operator": "b", "title": "last" })).await);
    assert_eq!(session.await["version"], 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_apps_act_as_members_only() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["a", "b", "c"]).await;
    let body = json!({ "operator": "root", "title": "after", "reason": "cleaning" });
    let found = super::refused(&app, Method::PATCH, &path, &body).await;
    assert_eq!(found, super::refusal(403, "not_a_member", "operator"));
}
