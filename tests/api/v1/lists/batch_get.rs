//! `POST /v1/sessions/batch-get`.

use std::time::Duration;

use muster::domain::{Action, SessionId};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{BATCH_GET, SESSIONS, found, texts};
use crate::harness::{BUIN, TestApp};
use crate::list::World;
use crate::v1::{problem, request};

async fn ask(app: &TestApp, body: &Value) -> Response {
    request(app, Method::POST, BATCH_GET).body(body.to_string()).send().await.unwrap()
}

async fn read(app: &TestApp, ids: &[String]) -> Value {
    let response = ask(app, &json!({ "ids": ids })).await;
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

fn unknown(number: u128) -> SessionId {
    SessionId::new(Uuid::from_u128(number))
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_keep_the_requested_order_and_missing_ids_are_listed() {
    let world = World::begin().await;
    let mut ids = [unknown(0); 3];
    for (id, title) in ids.iter_mut().zip(["0", "1", "2"]) {
        world.app.clock.advance(Duration::from_secs(1));
        *id = world.create(title, &["a", "b", "c"]).await.id;
    }
    world.act(ids[1], Action::Dissolve).await.unwrap();
    let requested = [unknown(9), ids[2], ids[0], unknown(7), ids[1]].map(|id| id.to_string());
    let answer = read(&world.app, &requested).await;
    let items = answer["items"].as_array().unwrap();
    assert_eq!(texts(items, "title"), ["2", "0", "1"]);
    assert_eq!(texts(items, "state"), ["active", "active", "dissolved"]);
    assert_eq!(answer["missing"], json!([unknown(9).to_string(), unknown(7).to_string()]));
    assert_eq!(answer.as_object().unwrap().len(), 2);

    // Lists show the sessions in the same form.
    let listed = found(&world.app, &format!("{SESSIONS}?sort=createdAt")).await;
    let sorted = read(&world.app, &ids.map(|id| id.to_string())).await;
    assert_eq!((&sorted["items"], &sorted["missing"]), (&listed["items"], &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_ids_are_answered_once() {
    let world = World::begin().await;
    let a = world.create("a", &["a", "b", "c"]).await.id.uuid();
    let b = world.create("b", &["a", "b", "c"]).await.id.uuid();
    let missing = unknown(7).uuid();
    let requested = [
        a.hyphenated().to_string(),
        missing.simple().to_string(),
        b.simple().to_string().to_uppercase(),
        a.braced().to_string(),
        missing.braced().to_string().to_uppercase(),
        b.hyphenated().to_string(),
    ];
    let answer = read(&world.app, &requested).await;
    assert_eq!(texts(answer["items"].as_array().unwrap(), "title"), ["a", "b"]);
    assert_eq!(answer["missing"], json!([unknown(7).to_string()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_enterprises_sessions_are_missing() {
    let world = World::begin().await;
    let id = world.create("t", &["a", "b", "c"]).await.id.to_string();
    let (_, key) = world.app.another_app(BUIN + 1, &[super::Permission::SessionsRead]).await;
    let builder = world.app.client.request(Method::POST, BATCH_GET).bearer_auth(&key);
    let response = builder.body(json!({ "ids": [id] }).to_string()).send().await.unwrap();
    let found: Value = response.json().await.unwrap();
    assert_eq!(found, json!({ "items": [], "missing": [id] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn number_of_ids_is_bounded() {
    let world = World::begin().await;
    let limits = found(&world.app, "/v1/limits").await;
    let most = limits["maxBatchGetIds"].as_u64().unwrap();
    let id = world.create("t", &["a", "b", "c"]).await.id;
    let others = (1..most).map(|number| unknown(number.into()));
    let mut requested: Vec<_> = others.chain([id]).map(|id| id.to_string()).collect();
    let answer = read(&world.app, &requested).await;
    assert_eq!(answer["missing"].as_array().unwrap().len() as u64, most - 1);
    assert_eq!(texts(answer["items"].as_array().unwrap(), "title"), ["t"]);

    // A repeated id counts towards the size of the request.
    requested.push(id.to_string());
    let rest = json!({
        "detail": "ids: at most 200, got 201", "field": "ids", "limit": 200, "got": 201
    });
    let refused = problem(ask(&world.app, &json!({ "ids": requested })).await).await;
    assert_eq!(refused, (400, "invalid_field".to_owned(), rest));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_field() {
    let world = World::begin().await;
    let good = unknown(7).to_string();
    for (body, code, detail) in [
        (json!({}), "missing_field", "ids: is missing"),
        (json!({ "ids": [] }), "invalid_field", "ids: at least 1, got 0"),
        (json!({ "ids": [good, good, good, "x"] }), "invalid_field", "ids[3]: must be a UUID"),
        (json!({ "ids": [good, ""] }), "invalid_field", "ids[1]: must be a UUID"),
        (json!({ "ids": [good], "id": 1 }), "unknown_field", "id: is unknown, expected `ids`"),
    ] {
        let (status, found, rest) = problem(ask(&world.app, &body).await).await;
        assert_eq!((status, found.as_str()), (400, code), "{body}");
        assert!(rest["detail"].as_str().unwrap().starts_with(detail), "{rest}");
        assert_eq!(rest["field"], detail.split(':').next().unwrap());
    }
    for (body, code, field) in [
        (json!({ "ids": null }), "invalid_field", "ids"),
        (json!({ "ids": good }), "invalid_field", "ids"),
        (json!({ "ids": [good, 5] }), "invalid_field", "ids[1]"),
        (json!([good]), "malformed_body", "body"),
    ] {
        let (status, found, rest) = problem(ask(&world.app, &body).await).await;
        assert_eq!((status, found.as_str(), &rest["field"]), (400, code, &json!(field)), "{body}");
    }
    let builder = request(&world.app, Method::POST, &format!("{BATCH_GET}?ids={good}"));
    let response = builder.body(json!({ "ids": [good] }).to_string()).send().await.unwrap();
    assert_eq!(problem(response).await.1, "unknown_parameter");
}
