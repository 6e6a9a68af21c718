//! `/v1/sessions/{sessionId}/members`.

use muster::config::RemovalLimit;
use muster::domain::Permission;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{create_session, get, problem, refusal, refused, request, result, send};
use crate::harness::{BUIN, spawn_app, spawn_app_with};

#[tokio::test(flavor = "multi_thread")]
async fn replacing_the_list_is_one_change() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["a", "b", "c"]).await;
    let members = format!("{path}/members");
    let body = json!({ "operator": "a", "member": ["d", "c", "a", "d"], "reason": "new team" });
    let response = send(&app, Method::PUT, &members, &body).await;
    assert_eq!(response.headers()["etag"], "\"2\"");
    let session = result(response).await;
    assert_eq!((&session["member"], &session["version"]), (&json!(["a", "c", "d"]), &json!(2)));
    // The same list again has no effect.
    assert_eq!(result(send(&app, Method::PUT, &members, &body).await).await, session);
    // The member that joined first becomes the owner if the owner is not in the list.
    let body = json!({ "operator": "a", "member": ["c", "d", "e"] });
    let session = result(send(&app, Method::PUT, &members, &body).await).await;
    assert_eq!((&session["owner"], &session["version"]), (&json!("c"), &json!(3)));
    for (body, status, code, field) in [
        (json!({ "operator": "c" }), 400, "missing_field", "member"),
        (json!({ "operator": "c", "member": [""] }), 400, "invalid_field", "member[0]"),
        (json!({ "operator": "c", "member": ["c"] }), 422, "too_few_members", "member"),
        (json!({ "operator": "d", "member": ["d", "e", "f"] }), 403, "not_the_owner", "member"),
        (json!({ "operator": "x", "member": ["x"] }), 403, "not_a_member", "operator"),
    ] {
        let found = refused(&app, Method::PUT, &members, &body).await;
        assert_eq!(found, refusal(status, code, field), "{body}");
    }
    assert_eq!(get(&app, &path).await, session);
}

#[tokio::test(flavor = "multi_thread")]
async fn single_members_are_added_and_removed() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["a", "b", "c"]).await;
    let by = json!({ "operator": "b", "reason": "asked to" });
    let add = async |account: &str| {
        send(&app, Method::PUT, &format!("{path}/members/{account}"), &by).await
    };
    let remove = async |account: &str, query: &str| {
        let call = format!("{path}/members/{account}?{query}");
        request(&app, Method::DELETE, &call).send().await.unwrap()
    };
    let response = add("%E9%A1%B9%2F%201").await;
    assert_eq!(
        (response.status(), &response.headers()["etag"]),
        (StatusCode::OK, &"\"2\"".parse().unwrap())
    );
    let session = result(response).await;
    assert_eq!(session["member"], json!(["a", "b", "c", "项/ 1"]));
    assert_eq!(result(add("a").await).await, session);
    let (status, code, rest) = problem(remove("c", "operator=b").await).await;
    let found = (status, code.as_str(), &rest["field"]);
    assert_eq!(found, (403, "not_the_owner", &json!("account")));
    let session = result(remove("%E9%A1%B9%2F%201", "operator=a&reason=so+it+is").await).await;
    assert_eq!((&session["member"], &session["version"]), (&json!(["a", "b", "c"]), &json!(3)));
    assert_eq!(result(remove("nobody", "operator=c").await).await, session);
    let (status, code, rest) = problem(remove("c", "operator=c").await).await;
    let found = (status, code.as_str(), &rest["field"]);
    assert_eq!(found, (422, "too_few_members", &json!("account")));

    let long = "x".repeat(65);
    for (response, code, field) in [
        (add(&long).await, "invalid_parameter", "account"),
        (add("%00").await, "invalid_parameter", "account"),
        (add("%ff").await, "invalid_parameter", "account"),
        (remove("c", "").await, "missing_parameter", "operator"),
        (remove("c", "operator=").await, "invalid_parameter", "operator"),
        (remove("c", "operator=a&reason=").await, "invalid_parameter", "reason"),
        (remove("c", "operator=a&opUser=a").await, "unknown_parameter", "opUser"),
    ] {
        let (status, found, rest): (_, _, Value) = problem(response).await;
        assert_eq!((status, found.as_str(), &rest["field"]), (400, code, &json!(field)));
    }
    let events = get(&app, &format!("{path}/events")).await;
    let reasons: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|e| &e["reason"]).collect();
    assert_eq!(reasons, [&Value::Null, &json!("asked to"), &json!("so it is")]);
}

/// The minimum binds new sessions. The policy says how far members may leave.
#[tokio::test(flavor = "multi_thread")]
async fn members_leave_down_to_one_if_the_policy_allows_it() {
    let app =
        spawn_app_with(|settings| settings.policy.remaining_members = RemovalLimit::DownToOne)
            .await;
    let body = json!({ "operator": "a", "title": "t", "member": ["b"] });
    let found = refused(&app, Method::POST, "/v1/sessions", &body).await;
    assert_eq!(found, refusal(422, "too_few_members", "member"));
    let (path, _) = create_session(&app, &["a", "b", "c"]).await;
    let leave = async |account: &str| {
        let call = format!("{path}/members/{account}?operator={account}");
        request(&app, Method::DELETE, &call).send().await.unwrap()
    };
    assert_eq!(result(leave("b").await).await["member"], json!(["a", "c"]));
    let left = result(leave("a").await).await;
    assert_eq!((&left["member"], &left["owner"]), (&json!(["c"]), &json!("c")));
    let (status, code, rest) = problem(leave("c").await).await;
    assert_eq!((status, code.as_str()), (422, "too_few_members"));
    assert_eq!((&rest["limit"], &rest["got"]), (&json!(1), &json!(0)));
    // The other ways to remove members follow the same rule.
    let body = json!({ "operator": "c", "member": ["c", "d", "e"] });
    let members = format!("{path}/members");
    result(send(&app, Method::PUT, &members, &body).await).await;
    let body = json!({ "operator": "c", "delMember": ["d"] });
    assert_eq!(result(send(&app, Method::PATCH, &path, &body).await).await["memberCount"], 2);
    let body = json!({ "operator": "c", "version": 3 });
    let call = format!("{path}/revert");
    assert_eq!(result(send(&app, Method::POST, &call, &body).await).await["member"], json!(["c"]));
}

/// The removal of a person from all sessions is never blocked.
#[tokio::test(flavor = "multi_thread")]
async fn administrator_with_a_reason_may_go_below_the_minimum() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["a", "b", "c"]).await;
    let (admin, key) = app.another_app(BUIN, &[Permission::SessionsAdmin]).await;
    let remove = async |account: &str, query: &str| {
        let call = format!("{path}/members/{account}?operator={query}");
        admin.request(Method::DELETE, &call).bearer_auth(&key).send().await.unwrap()
    };
    assert_eq!(problem(remove("b", "b").await).await.1, "too_few_members");
    let session = result(remove("b", "root&reason=left").await).await;
    assert_eq!(session["member"], json!(["a", "c"]));
    let session = result(remove("a", "root&reason=left").await).await;
    assert_eq!((&session["member"], &session["owner"]), (&json!(["c"]), &json!("c")));
    assert_eq!(problem(remove("c", "root&reason=left").await).await.1, "too_few_members");
    // A session that is smaller than the minimum can still change otherwise.
    let body = json!({ "operator": "c", "title": "after", "addMember": ["d"] });
    let session = result(send(&app, Method::PATCH, &path, &body).await).await;
    assert_eq!(session["member"], json!(["c", "d"]));
}
