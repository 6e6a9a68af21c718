//! Methods, queries and bodies of requests, and the errors of invalid ones.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{checked, problem, refusal, refused, request, result, send};
use crate::harness::raw::{RawResponse, send_until_closed};
use crate::harness::{spawn_app, spawn_app_with};

const LIMITS: &str = "/v1/limits";

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_methods_get_an_allow_header() {
    let app = spawn_app().await;
    for path in [LIMITS, "/v1/openapi.json", "/v1/docs", "/v1/docs/start.js"] {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            let detail = format!("method: only GET, HEAD, got \"{method}\"");
            let response = request(&app, method, path).send().await.unwrap();
            assert_eq!(response.headers()["allow"], "GET, HEAD", "{path}");
            let rest = json!({ "detail": detail, "field": "method" });
            assert_eq!(problem(response).await, (405, "method_not_allowed".to_owned(), rest));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_equals_get_without_body() {
    let app = spawn_app().await;
    for path in [LIMITS, "/v1/openapi.json", "/v1/docs", "/v1/docs/start.js"] {
        let get = request(&app, Method::GET, path).send().await.unwrap();
        let head = request(&app, Method::HEAD, path).send().await.unwrap();
        assert_eq!((get.status(), head.status()), (StatusCode::OK, StatusCode::OK), "{path}");
        for name in ["content-type", "content-length"] {
            assert_eq!(head.headers()[name], get.headers()[name], "{path}");
        }
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_parameters_are_refused() {
    let app = spawn_app().await;
    for (query, code, field) in [
        ("verbose=1", "unknown_parameter", "verbose"),
        ("verbose", "unknown_parameter", "verbose"),
        ("=", "unknown_parameter", ""),
        ("a=1&a=1", "duplicate_parameter", "a"),
        ("a=%", "malformed_query", "query"),
        ("a=%ff", "malformed_query", "query"),
    ] {
        let response = request(&app, Method::GET, &format!("{LIMITS}?{query}")).send().await;
        let (status, found, rest) = problem(response.unwrap()).await;
        assert_eq!((status, found.as_str(), &rest["field"]), (400, code, &json!(field)), "{query}");
    }
    for empty in ["", "&", "&&"] {
        let response = request(&app, Method::GET, &format!("{LIMITS}?{empty}")).send().await;
        assert_eq!(response.unwrap().status(), StatusCode::OK, "{empty}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_numbers_follow_the_rule_of_cgi() {
    let app = spawn_app().await;
    let sessions = "/v1/sessions";
    let new = json!({ "operator": 1, "title": "t", "member": [10232, 10233.0, 1e3, "x"] });
    let created = result(send(&app, Method::POST, sessions, &new).await).await;
    assert_eq!(created["member"], json!(["1", "10232", "10233", "1000", "x"]), "{created}");
    let path = format!("{sessions}/{}", created["sessionId"].as_str().unwrap());
    let path = path.replace(['{', '}'], "");
    for (method, path, body) in [
        (Method::PATCH, path.clone(), json!({ "operator": 1.0, "owner": 10232, "addMember": [7] })),
        (Method::PUT, format!("{path}/members/8"), json!({ "operator": 10232 })),
        (Method::POST, format!("{path}/revert"), json!({ "operator": 10232.0, "version": 2.0 })),
    ] {
        result(send(&app, method, &path, &body).await).await;
    }
    let update = json!({ "sessionId": created["sessionId"], "operator": 10232, "version": 4.0, "delMember": [7] });
    let batch = json!({ "items": [{ "update": update }] });
    let done = result(send(&app, Method::POST, "/v1/sessions/batch", &batch).await).await;
    assert_eq!(done["items"][0]["status"], 200, "{done}");
    // Both APIs show the same accounts.
    let cgi = app.current(&created).await;
    assert_eq!(cgi["member"], json!(["1", "10232", "10233", "1000", "x"]), "{cgi}");
    for wrong in [json!(1.5), json!(-0.0), json!(1e300), json!(true), json!([1]), json!({})] {
        let body = json!({ "operator": "a", "title": "t", "member": ["b", wrong, "c"] });
        let got = refused(&app, Method::POST, sessions, &body).await;
        assert_eq!(got, refusal(400, "invalid_field", "member[1]"), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_apis_explain_broken_values_alike() {
    let app = spawn_app().await;
    for (body, reason) in [
        (r#"{"title":"\ud800"}"#, "a lone surrogate at line 1 column 17, in title"),
        (r#"{"title":"\ude00\ud83d"}"#, "a lone surrogate at line 1 column 16, in title"),
        (r#"{"title":"\ud83d\n"}"#, "a lone surrogate at line 1 column 18, in title"),
        (
            r#"{"title":"t","member":["b","\udc00"]}"#,
            "a lone surrogate at line 1 column 34, in member[1]",
        ),
        (r#"{"title":1e999}"#, "a number is too large at line 1 column 14, in title"),
        (r#"{"\ud800":1}"#, "a lone surrogate at line 1 column 9"),
    ] {
        let builder = request(&app, Method::POST, "/v1/sessions").body(body);
        let (status, code, rest) = problem(builder.send().await.unwrap()).await;
        assert_eq!((status, &*code), (400, "malformed_body"), "{body}");
        assert_eq!(rest["detail"], format!("body: {reason}"), "{body}");
        let cgi = app.post_plain("/cgi/session/create", body).await;
        let expected = crate::harness::refusal(100_004, &format!("body: not JSON: {reason}"));
        assert_eq!(cgi, expected, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_list_of_accounts_is_refused_in_both_apis() {
    let app = spawn_app_with(|settings| settings.limits.max_members = 5).await;
    let session = app.session(&["a", "b", "c"]).await;
    let path = format!("/v1/sessions/{}", session["sessionId"].as_str().unwrap());
    let path = path.replace(['{', '}'], "");
    let many: Vec<usize> = (0..15_000).collect();
    let reason = "at most 5 accounts, got 15000";
    for (method, path, field, body) in [
        (
            Method::POST,
            "/v1/sessions",
            "member",
            json!({ "operator": "a", "title": "t", "member": many }),
        ),
        (Method::PATCH, &*path, "addMember", json!({ "operator": "a", "addMember": many })),
        (Method::PATCH, &path, "delMember", json!({ "operator": "a", "delMember": many })),
        (
            Method::PUT,
            &format!("{path}/members"),
            "member",
            json!({ "operator": "a", "member": many }),
        ),
    ] {
        let (status, code, rest) = problem(send(&app, method, path, &body).await).await;
        assert_eq!((status, &*code, &rest["field"]), (422, "too_many_members", &json!(field)));
        assert_eq!((&rest["limit"], &rest["got"]), (&json!(5), &json!(15_000)));
        assert_eq!(rest["detail"], format!("{field}: {reason}"));
    }
    let items = json!({ "items": [
        { "create": { "operator": "a", "title": "t", "member": many } },
        { "update": { "sessionId": session["sessionId"], "operator": "a", "addMember": many } },
    ] });
    let batch = result(send(&app, Method::POST, "/v1/sessions/batch", &items).await).await;
    for item in batch["items"].as_array().unwrap() {
        assert_eq!(
            (&item["status"], &item["error"]["code"]),
            (&json!(422), &json!("too_many_members"))
        );
    }
    let create = json!({ "title": "t", "creator": "a", "member": many });
    let refused = |field: &str| crate::harness::refusal(400_005, &format!("{field}: {reason}"));
    assert_eq!(app.create(&create).await, refused("member"));
    for field in ["addMember", "delMember"] {
        assert_eq!(app.change(&session, "a", json!({ field: many })).await, refused(field));
        // A sealed request learns the limit only.
        let token = app.client.token().await;
        let message = json!({ "sessionId": session["sessionId"], "opUser": "a", field: many });
        let sealed = app.client.post_sealed(&token, "/cgi/session/update", &message).await;
        let expected = crate::harness::refusal(400_005, &format!("{field}: at most 5 accounts"));
        assert_eq!(sealed, expected);
    }
    assert_eq!(app.current(&session).await, session);
    // Repeated accounts count once.
    let repeated: Vec<usize> = (0..15_000).map(|number| number % 4).collect();
    let body = json!({ "operator": "x", "title": "t", "member": repeated });
    let created = result(send(&app, Method::POST, "/v1/sessions", &body).await).await;
    assert_eq!(created["member"], json!(["x", "0", "1", "2", "3"]));
    let created = app.create(&json!({ "creator": "x", "title": "t", "member": repeated })).await;
    assert_eq!(created["member"], json!(["x", "0", "1", "2", "3"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn problem_has_the_request_id() {
    let app = spawn_app().await;
    let builder = request(&app, Method::GET, "/v1/nothing").header("X-Request-Id", "mine-0.1");
    let body: Value = builder.send().await.unwrap().json().await.unwrap();
    assert_eq!(body["requestId"], "mine-0.1");
}

/// A request without credentials and with an incomplete body.
fn open(header: &str, body: &str) -> Vec<u8> {
    format!("GET {LIMITS} HTTP/1.1\r\nHost: muster\r\n{header}\r\n\r\n{body}").into_bytes()
}

fn check_problem(got: &RawResponse, status: u16, code: &str, rest: &Value) {
    assert_eq!(got.header("content-type"), Some("application/problem+json"));
    assert_eq!(got.header("connection"), Some("close"));
    let found = checked(got.status, got.header("x-request-id").unwrap(), got.json());
    assert_eq!(found, (status, code.to_owned(), rest.clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn body_limit_holds_for_every_client() {
    let app = spawn_app_with(|settings| {
        settings.limits.max_body_bytes = 1024;
        settings.server.body_timeout = Duration::from_millis(200);
    })
    .await;
    let chunked = "Transfer-Encoding: chunked";
    let detail = "body: at most 1024 bytes, got 1025";
    let large = json!({ "detail": detail, "field": "body", "limit": 1024, "got": 1025 });
    let announced = open("Content-Length: 1025", "");
    check_problem(&send_until_closed(app.address, announced).await, 413, "body_too_large", &large);
    let detail = "body: at most 1024 bytes, got more";
    let large = json!({ "detail": detail, "field": "body", "limit": 1024 });
    let chunks = open(chunked, &format!("401\r\n{}\r\n", "x".repeat(1025)));
    check_problem(&send_until_closed(app.address, chunks).await, 413, "body_too_large", &large);
    let slow = json!({ "detail": "body: must arrive within 200ms", "field": "body" });
    for (header, start) in [("Content-Length: 9", "{"), (chunked, "1\r\n{\r\n")] {
        let got = send_until_closed(app.address, open(header, start)).await;
        check_problem(&got, 408, "body_timeout", &slow);
    }
    let broken = json!({ "detail": "body: incomplete, the client stopped sending or the framing is invalid", "field": "body" });
    let got = send_until_closed(app.address, open(chunked, "nonsense\r\n")).await;
    check_problem(&got, 400, "body_incomplete", &broken);
}
