//! `POST /v1/sessions/batch-get`.

use std::time::Duration;

use muster::domain::{Action, SessionId};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{BATCH_GET, SESSIONS, found, texts};
use crate::harness::{BUIN, TestApp};
use crate::list::TestService;
use crate::v1::{problem, request};

async fn batch_get(app: &TestApp, body: &Value) -> Response {
    request(app, Method::POST, BATCH_GET).body(body.to_string()).send().await.unwrap()
}

async fn read(app: &TestApp, ids: &[String]) -> Value {
    let response = batch_get(app, &json!({ "ids": ids })).await;
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

fn unknown(number: u128) -> SessionId {
    SessionId::new(Uuid::from_u128(number))
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_keep_the_requested_order_and_missing_ids_are_listed() {
    let service = TestService::start().await;
    let mut ids = [unknown(0); 3];
    for (id, title) in ids.iter_mut().zip(["0", "1", "2"]) {
        service.app.clock.advance(Duration::from_secs(1));
        *id = service.create(title, &["a", "b", "c"]).await.id;
    }
    service.act(ids[1], Action::Dissolve).await.unwrap();
    let requested = [unknown(9), ids[2], ids[0], unknown(7), ids[1]].map(|id| id.to_string());
    let answer = read(&service.app, &requested).await;
    let items = answer["items"].as_array().unwrap();
    assert_eq!(texts(items, "title"), ["2", "0", "1"]);
    assert_eq!(texts(items, "state"), ["active", "active", "dissolved"]);
    assert_eq!(answer["missing"], json!([unknown(9).to_string(), unknown(7).to_string()]));
    assert_eq!(answer.as_object().unwrap().len(), 2);

    // Lists show the sessions in the same form.
    let listed = found(&service.app, &format!("{SESSIONS}?sort=createdAt")).await;
    let sorted = read(&service.app, &ids.map(|id| id.to_string())).await;
    assert_eq!((&sorted["items"], &sorted["missing"]), (&listed["items"], &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_ids_are_answered_once() {
    let service = TestService::start().await;
    let a = service.create("a", &["a", "b", "c"]).await.id.uuid();
    let b = service.create("b", &["a", "b", "c"]).await.id.uuid();
    let missing = unknown(7).uuid();
    let requested = [
        a.hyphenated().to_string(),
        missing.simple().to_string(),
        b.simple().to_string().to_uppercase(),
        a.braced().to_string(),
        missing.braced().to_string().to_uppercase(),
        b.hyphenated().to_string(),
    ];
    let answer = read(&service.app, &requested).await;
    assert_eq!(texts(answer["items"].as_array().unwrap(), "title"), ["a", "b"]);
    assert_eq!(answer["missing"], json!([unknown(7).to_string()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_enterprises_sessions_are_missing() {
    let service = TestService::start().await;
    let id = service.create("t", &["a", "b", "c"]).await.id.to_string();
    let (_, key) = service.app.another_app(BUIN + 1, &[super::Permission::SessionsRead]).await;
    let builder = service.app.client.request(Method::POST, BATCH_GET).bearer_auth(&key);
    let response = builder.body(json!({ "ids": [id] }).to_string()).send().await.unwrap();
    let found: Value = response.json().await.unwrap();
    assert_eq!(found, json!({ "items": [], "missing": [id] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn number_of_ids_is_bounded() {
    let service = TestService::start().await;
    let limits = found(&service.app, "/v1/limits").await;
    let max_ids = limits["maxBatchGetIds"].as_u64().unwrap();
    let id = service.create("t", &["a", "b", "c"]).await.id;
    let others = (1..max_ids).map(|number| unknown(number.into()));
    let mut requested: Vec<_> = others.chain([id]).map(|id| id.to_string()).collect();
    let answer = read(&service.app, &requested).await;
    assert_eq!(answer["missing"].as_array().unwrap().len() as u64, max_ids - 1);
    assert_eq!(texts(answer["items"].as_array().unwrap(), "title"), ["t"]);

    // A repeated id counts towards the size of the request.
    requested.push(id.to_string());
    let rest = json!({
        "detail": "ids: at most 200, got 201", "field": "ids", "limit": 200, "got": 201
    });
    let refused = problem(batch_get(&service.app, &json!({ "ids": requested })).await).await;
    assert_eq!(refused, (400, "invalid_field".to_owned(), rest));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_field() {
    let service = TestService::start().await;
    let valid = unknown(7).to_string();
    for (body, code, detail) in [
        (json!({}), "missing_field", "ids: is missing"),
        (json!({ "ids": [] }), "invalid_field", "ids: at least 1, got 0"),
        (
            json!({ "ids": [valid, valid, valid, "x"] }),
            "invalid_field",
            "ids[3]: must be a UUID, got \"x\"",
        ),
        (json!({ "ids": [valid, ""] }), "invalid_field", "ids[1]: must be a UUID, got \"\""),
        (json!({ "ids": [valid], "id": 1 }), "unknown_field", "id: is unknown, expected `ids`"),
    ] {
        let (status, found, rest) = problem(batch_get(&service.app, &body).await).await;
        assert_eq!((status, found.as_str()), (400, code), "{body}");
        assert!(rest["detail"].as_str().unwrap().starts_with(detail), "{rest}");
        assert_eq!(rest["field"], detail.split(':').next().unwrap());
    }
    for (body, code, field) in [
        (json!({ "ids": null }), "invalid_field", "ids"),
        (json!({ "ids": valid }), "invalid_field", "ids"),
        (json!({ "ids": [valid, 5] }), "invalid_field", "ids[1]"),
        (json!([valid]), "malformed_body", "body"),
    ] {
        let (status, found, rest) = problem(batch_get(&service.app, &body).await).await;
        assert_eq!((status, found.as_str(), &rest["field"]), (400, code, &json!(field)), "{body}");
    }
    let builder = request(&service.app, Method::POST, &format!("{BATCH_GET}?ids={valid}"));
    let response = builder.body(json!({ "ids": [valid] }).to_string()).send().await.unwrap();
    assert_eq!(problem(response).await.1, "unknown_parameter");
}
