//! `POST /v1/sessions/batch`.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{create_session, get, problem, refusal, refused, request, result, send};
use crate::harness::store::StoredHistory;
use crate::harness::{TestApp, spawn_app};

const BATCH: &str = "/v1/sessions/batch";

fn create(title: &str) -> Value {
    json!({ "create": { "operator": "a", "title": title, "member": ["b", "c"] } })
}

async fn run(app: &TestApp, items: Value) -> Vec<Value> {
    let response = send(app, Method::POST, BATCH, &json!({ "items": items })).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = result(response).await;
    serde_json::from_value(body["items"].take()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn results_follow_the_order_of_items() {
    let app = spawn_app().await;
    let (path, session) = create_session(&app, &["a", "b", "c"]).await;
    let id = &session["sessionId"];
    let update = |mut fields: Value| {
        fields["sessionId"] = id.clone();
        fields["operator"] = json!("a");
        json!({ "update": fields })
    };
    let items = run(&app, json!([
        create("new"),
        update(json!({ "title": "two", "version": 1 })),
        { "create": { "operator": "a", "title": "", "member": [] } },
        update(json!({ "addMember": ["d"], "version": 2 })),
        update(json!({ "title": "no", "version": 1 })),
        update(json!({ "attributes": { "x": 1 }, "delMember": ["b"], "owner": "d", "version": null })),
        { "update": { "sessionId": "5", "operator": "a" } },
        { "update": { "sessionId": "8ad595f373b34b5690aff336f9222fc5", "operator": "a" } },
        {},
        { "create": create("x")["create"], "update": {} },
        { "create": { "operator": "a", "titel": "t", "member": [] } },
        { "delete": {} },
        7,
        { "create": create("x")["create"], "idempotencyKey": "a b" },
        create("last"),
    ]))
    .await;
    let found: Vec<Value> = items
        .iter()
        .map(|item| match item["status"].as_i64().unwrap() {
            status @ (200 | 201) => {
                assert!(item.get("error").is_none() && item.get("replayed").is_none(), "{item}");
                json!([status, item["session"]["title"], item["session"]["version"]])
            }
            status => {
                assert!(item.get("session").is_none(), "{item}");
                let error = &item["error"];
                assert_eq!(error["status"], status);
                assert!(error["type"].is_string() && error["title"].is_string(), "{error}");
                json!([status, error["code"], error["field"]])
            }
        })
        .collect();
    let expected = json!([
        [201, "new", 1],
        [200, "two", 2],
        [400, "invalid_field", "title"],
        [200, "two", 3],
        [412, "version_conflict", "version"],
        [200, "two", 4],
        [400, "invalid_session_id", "sessionId"],
        [404, "session_not_found", "sessionId"],
        [400, "missing_field", "create"],
        [400, "invalid_field", "update"],
        [400, "unknown_field", "titel"],
        [400, "unknown_field", "delete"],
        [400, "malformed_body", "body"],
        [400, "invalid_field", "idempotencyKey"],
        [201, "last", 1],
    ]);
    assert_eq!(Value::from(found), expected);
    assert_eq!(items[4]["error"]["currentVersion"], 3);
    assert_eq!(items[5]["session"], get(&app, &path).await);
    assert_eq!(items[5]["session"]["member"], json!(["a", "c", "d"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn item_idempotency_keys_work() {
    let app = spawn_app().await;
    let (_, session) = create_session(&app, &["a", "b", "c"]).await;
    let named = |mut item: Value, key: &str| {
        item["idempotencyKey"] = json!(key);
        item
    };
    let update =
        json!({ "update": { "sessionId": session["sessionId"], "operator": "a", "title": "t" } });
    // The keys are used twice in one batch, and again in the next one.
    let items = json!([named(create("new"), "k"), named(create("new"), "k"), named(update, "u")]);
    let first = run(&app, items.clone()).await;
    assert_eq!(first[0]["session"], first[1]["session"]);
    assert_ne!(first[0]["replayed"], first[1]["replayed"]);
    assert!(first[2].get("replayed").is_none());
    let again = run(&app, items).await;
    for (one, two) in first.iter().zip(&again) {
        assert_eq!((&two["status"], &two["session"]), (&one["status"], &one["session"]));
        assert_eq!(two["replayed"], true);
    }
    let other = run(&app, json!([named(create("other"), "k")])).await;
    let found = (&other[0]["status"], &other[0]["error"]["code"]);
    assert_eq!(found, (&json!(422), &json!("idempotency_key_reused")));
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_size_is_bounded() {
    let app = spawn_app().await;
    let creates = |count: usize| json!({ "items": vec![create("t"); count] });
    assert_eq!(
        result(send(&app, Method::POST, BATCH, &creates(100)).await).await["items"]
            .as_array()
            .unwrap()
            .len(),
        100
    );
    for (body, limit, got) in [(creates(0), 1, 0), (creates(101), 100, 101)] {
        let (status, code, rest) = problem(send(&app, Method::POST, BATCH, &body).await).await;
        assert_eq!((status, code.as_str()), (400, "invalid_field"));
        assert_eq!((&rest["limit"], &rest["got"]), (&json!(limit), &json!(got)));
    }
    for (body, code, field) in [
        (json!({}), "missing_field", "items"),
        (json!({ "items": {} }), "invalid_field", "items"),
        (json!({ "items": [{}], "dryRun": true }), "unknown_field", "dryRun"),
    ] {
        assert_eq!(refused(&app, Method::POST, BATCH, &body).await, refusal(400, code, field));
    }
    let found = refused(&app, Method::POST, "/v1/sessions/batch?dryRun=true", &creates(1)).await;
    assert_eq!(found, refusal(400, "unknown_parameter", "dryRun"));
}

#[tokio::test(flavor = "multi_thread")]
async fn item_headers_are_refused_for_the_batch() {
    let app = spawn_app().await;
    for (header, value, names) in
        [("Idempotency-Key", "k", "idempotencyKey"), ("If-Match", "\"1\"", "version")]
    {
        let builder = request(&app, Method::POST, BATCH).header(header, value);
        let response = builder.json(&json!({ "items": [create("t")] })).send().await.unwrap();
        let (status, code, rest) = problem(response).await;
        assert_eq!(
            (status, code.as_str(), &rest["field"]),
            (400, "invalid_header", &json!(header))
        );
        assert!(rest["detail"].as_str().unwrap().ends_with(names), "{rest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_field_in_an_item_is_refused() {
    let app = spawn_app().await;
    let body = r#"{"items":[{"create":{"operator":"a","title":"t","member":["b","c"],
        "attributes":{"a":1,"a":2}}},{"create":{},"create":{}}]}"#;
    let builder = request(&app, Method::POST, BATCH).body(body);
    let items = result(builder.send().await.unwrap()).await;
    for (place, field) in [(0, "attributes.a"), (1, "create")] {
        let error = &items["items"][place]["error"];
        assert_eq!((&error["code"], &error["field"]), (&json!("duplicate_field"), &json!(field)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_database_is_reported_per_item() {
    let app = spawn_app().await;
    let (_, session) = create_session(&app, &["a", "b", "c"]).await;
    app.pool.close().await;
    let item = |key: &str| {
        let update = json!({ "sessionId": session["sessionId"], "operator": "a", "title": "t" });
        json!({ "update": update, "idempotencyKey": key })
    };
    for item in run(&app, json!([item("one"), item("two")])).await {
        assert_eq!((&item["status"], &item["error"]["code"]), (&json!(503), &json!("unavailable")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_do_not_fit_into_the_response_are_named() {
    let app = spawn_app().await;
    let mut items = Vec::new();
    for _ in 0..6 {
        let id = StoredHistory::of_accounts(&app, 2, 1_997).insert(&app).await;
        items.push(
            json!({ "update": { "sessionId": id.to_string(), "operator": "a", "title": "t" } }),
        );
    }
    // Failures take no room.
    let unknown = uuid::Uuid::nil().to_string();
    items.insert(2, json!({ "update": { "sessionId": unknown, "operator": "a" } }));
    let create = json!({ "create": { "operator": "a", "title": "t", "member": ["b", "c"] } });
    items.push(create);
    let results =
        result(send(&app, Method::POST, "/v1/sessions/batch", &json!({ "items": items })).await)
            .await;
    let results = results["items"].as_array().unwrap();
    let statuses: Vec<_> =
        results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 200, 404, 200, 200, 200, 200, 201]);
    for place in [0, 1, 3, 4, 5] {
        assert_eq!(results[place]["session"]["memberCount"], 2_000);
        assert_eq!((results[place].get("sessionId"), results[place].get("version")), (None, None));
    }
    for (place, version) in [(6, 3), (7, 1)] {
        assert_eq!(
            (results[place].get("session"), &results[place]["version"]),
            (None, &json!(version))
        );
        let id = results[place]["sessionId"].as_str().unwrap();
        let session = get(&app, &format!("/v1/sessions/{}", id.trim_matches(['{', '}']))).await;
        assert_eq!((&session["sessionId"], &session["version"]), (&json!(id), &json!(version)));
    }
}
