//! Consumers are made, changed, reset and removed; and they have limits.

use muster::domain::Permission;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    MIRROR, acknowledge, changes, consumer_from_beginning, fetch, post_to, put,
    session_with_versions, status, wait_numbered,
};
use crate::harness::{BUIN, TestApp, spawn_app, store, wait_until};
use crate::metrics::{scrape, spawn};
use crate::v1::{get, problem, refusal, refused, request, result, send};

const THREE: [&str; 3] = ["alice", "bob", "carol"];

#[tokio::test(flavor = "multi_thread")]
async fn creation_can_be_repeated_and_keeps_the_position() {
    let app = spawn_app().await;
    session_with_versions(&app, &THREE, 2).await;
    wait_numbered(&app).await;
    let body = json!({ "start": "0" });
    let created = send(&app, Method::PUT, MIRROR, &body).await;
    assert_eq!(created.status(), StatusCode::CREATED);
    assert_eq!(created.headers()["location"], MIRROR);
    let created = result(created).await;
    assert_eq!((&created["lease"], &created["filter"]), (&json!("15s"), &json!({})));
    let events = fetch(&app, "a", 50).await;
    assert_eq!(acknowledge(&app, "a", &events).await, (2, vec![]));
    let again = send(&app, Method::PUT, MIRROR, &body).await;
    assert_eq!(again.status(), StatusCode::OK);
    assert_eq!(result(again).await["position"], 2);
    // Without a start, a consumer begins after the last change.
    assert_eq!(put(&app, "/v1/consumers/other", json!({})).await["position"], 2);
    let names: Vec<Value> = get(&app, "/v1/consumers").await["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|consumer| consumer["name"].clone())
        .collect();
    assert_eq!(names, ["mirror", "other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_filter_selects_from_the_position_on() {
    let app = spawn_app().await;
    let of_dave = session_with_versions(&app, &["dave", "bob", "carol"], 1).await;
    session_with_versions(&app, &THREE, 1).await;
    wait_numbered(&app).await;
    let filter = |member: &str| json!({ "filter": { "member": member }, "start": "0" });
    assert_eq!(put(&app, MIRROR, filter("dave")).await["filter"], json!({ "member": "dave" }));
    let events = fetch(&app, "a", 1).await;
    assert_eq!(changes(&events), [(of_dave, 1)]);
    // The event that was selected before stays.
    put(&app, MIRROR, filter("alice")).await;
    assert_eq!(acknowledge(&app, "a", &events).await, (1, vec![]));
    session_with_versions(&app, &["dave", "bob", "carol"], 1).await;
    let of_alice = session_with_versions(&app, &THREE, 2).await;
    wait_numbered(&app).await;
    let events = fetch(&app, "a", 50).await;
    assert_eq!(changes(&events), [(of_alice.clone(), 1), (of_alice, 2)]);
    // The previous event of the new stream is one that the former filter left out.
    assert_eq!((&events[0]["prevSeq"], &events[1]["prevSeq"]), (&json!(2), &json!(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_moves_to_a_cursor_or_a_time_and_forgets_events() {
    let app = spawn_app().await;
    let session = session_with_versions(&app, &THREE, 3).await;
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    let events = fetch(&app, "a", 50).await;
    let reset = async |start: &Value| {
        let response = post_to(&app, app.address, "reset", &json!({ "start": start })).await;
        result(response).await["position"].clone()
    };
    assert_eq!(reset(&events[1]["cursor"]).await, 2);
    let again = fetch(&app, "b", 50).await;
    assert_eq!(changes(&again), [(session.clone(), 3)]);
    assert_eq!((&again[0]["attempt"], &again[0]["prevSeq"]), (&json!(1), &json!(2)));
    let (done, lost) = acknowledge(&app, "a", &events).await;
    assert_eq!((done, lost), (2, vec![events[2]["cursor"].clone()]));
    assert_eq!(reset(&json!("2000-01-01T00:00:00Z")).await, 0);
    assert_eq!(fetch(&app, "a", 50).await.len(), 3);
    assert_eq!(reset(&json!("2100-01-01T00:00:00Z")).await, 3);
    assert_eq!(fetch(&app, "a", 50).await.len(), 0);
    assert_eq!(reset(&json!("0")).await, 0);
    assert_eq!(store::count_consumer_rows(&app.pool).await, (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_consumer_leaves_nothing() {
    let app = spawn_app().await;
    session_with_versions(&app, &THREE, 2).await;
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    fetch(&app, "a", 1).await;
    let removed = request(&app, Method::DELETE, MIRROR).send().await.unwrap();
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    assert_eq!(store::count_consumer_rows(&app.pool).await, (0, 0, 0));
    for (method, path) in [
        (Method::DELETE, MIRROR.to_owned()),
        (Method::GET, MIRROR.to_owned()),
        (Method::POST, format!("{MIRROR}/fetch")),
        (Method::POST, format!("{MIRROR}/ack")),
        (Method::POST, format!("{MIRROR}/reset")),
        (Method::POST, format!("{MIRROR}/release")),
    ] {
        let body = match path.rsplit('/').next().unwrap() {
            "fetch" => json!({ "member": "a" }),
            "ack" => json!({ "member": "a", "cursors": [] }),
            "reset" => json!({ "start": "0" }),
            _ => json!({}),
        };
        let refused = match method {
            Method::POST => refused(&app, method, &path, &body).await,
            _ => {
                let response = request(&app, method, &path).send().await.unwrap();
                let (status, code, rest) = problem(response).await;
                (status, code, rest["field"].clone())
            }
        };
        assert_eq!(refused, refusal(404, "consumer_not_found", "name"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_of_another_app_are_separate() {
    let app = spawn_app().await;
    session_with_versions(&app, &THREE, 1).await;
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    let (client, key) = app.another_app(BUIN, &[Permission::SessionsRead]).await;
    let call = async |method: Method, path: &str, body: Value| {
        client.request(method, path).bearer_auth(&key).json(&body).send().await.unwrap()
    };
    let listed = result(call(Method::GET, "/v1/consumers", json!({})).await).await;
    assert_eq!(listed, json!({ "items": [] }));
    let response = call(Method::POST, &format!("{MIRROR}/fetch"), json!({ "member": "a" })).await;
    assert_eq!(problem(response).await.1, "consumer_not_found");
    // The same name is another consumer, with a position of its own.
    result(call(Method::PUT, MIRROR, json!({ "start": "0" })).await).await;
    let fetched = call(Method::POST, &format!("{MIRROR}/fetch"), json!({ "member": "a" })).await;
    assert_eq!(result(fetched).await["events"].as_array().unwrap().len(), 1);
    assert_eq!(fetch(&app, "a", 50).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_name_the_field_and_the_limit() {
    let app = spawn_app().await;
    consumer_from_beginning(&app).await;
    let fetch = |max: &str| {
        let body = format!(r#"{{"member":"a","max":{max}}}"#);
        request(&app, Method::POST, &format!("{MIRROR}/fetch"))
            .header("Content-Type", "application/json")
            .body(body)
            .send()
    };
    for max in ["1", "1.0", "1e0"] {
        assert_eq!(fetch(max).await.unwrap().status(), 200, "{max}");
    }
    for max in ["1.5", "\"1\""] {
        assert_eq!(fetch(max).await.unwrap().status(), 400, "{max}");
    }
    let long = "x".repeat(65);
    let many = vec!["x"; 1_001];
    for (action, body, field) in [
        ("fetch", json!({ "member": "" }), "member"),
        ("fetch", json!({ "member": long }), "member"),
        ("fetch", json!({ "member": "a b" }), "member"),
        ("fetch", json!({ "member": "a", "max": 0 }), "max"),
        ("fetch", json!({ "member": "a", "max": 201 }), "max"),
        ("fetch", json!({ "member": "a", "wait": "61s" }), "wait"),
        ("fetch", json!({ "member": "a", "wait": "1" }), "wait"),
        ("ack", json!({ "member": "a", "cursors": ["!"] }), "cursors[0]"),
        ("ack", json!({ "member": "a", "cursors": many }), "cursors"),
        ("reset", json!({ "start": "tomorrow" }), "start"),
        ("release", json!({ "cursors": ["!"] }), "cursors[0]"),
    ] {
        let refused = refused(&app, Method::POST, &format!("{MIRROR}/{action}"), &body).await;
        assert_eq!(refused, refusal(400, "invalid_field", field), "{action} {body}");
    }
    for (body, field) in [
        (json!({ "lease": "0s" }), "lease"),
        (json!({ "lease": "43201s" }), "lease"),
        (json!({ "lease": "1m" }), "lease"),
        (json!({ "start": "x" }), "start"),
        (json!({ "filter": { "kind": "x" } }), "filter.kind"),
        (json!({ "filter": { "sessionId": "x" } }), "filter.sessionId"),
        (json!({ "filter": { "member": "" } }), "filter.member"),
        (json!({ "filter": { "app": "a b" } }), "filter.app"),
    ] {
        let refused = refused(&app, Method::PUT, MIRROR, &body).await;
        assert_eq!(refused, refusal(400, "invalid_field", field), "{body}");
    }
    let refused = refused(&app, Method::PUT, &format!("/v1/consumers/{long}"), &json!({})).await;
    assert_eq!(refused, refusal(400, "invalid_parameter", "name"));
}

#[tokio::test(flavor = "multi_thread")]
async fn app_has_a_largest_number_of_consumers() {
    let app = spawn_app().await;
    for number in 0..100 {
        put(&app, &format!("/v1/consumers/c{number}"), json!({})).await;
    }
    let refused = refused(&app, Method::PUT, "/v1/consumers/c100", &json!({})).await;
    assert_eq!(refused, refusal(409, "too_many_consumers", "name"));
    assert_eq!(put(&app, "/v1/consumers/c99", json!({ "lease": "1s" })).await["lease"], "1s");
}

/// Creates sessions with these attributes in one request.
pub(super) async fn create_many(app: &TestApp, count: usize, attributes: Value) {
    let create = json!({ "create": {
        "operator": "alice", "title": "t", "member": THREE, "attributes": attributes,
    } });
    let items: Vec<&Value> = (0..count).map(|_| &create).collect();
    let response = send(app, Method::POST, "/v1/sessions/batch", &json!({ "items": items })).await;
    let created = result(response).await;
    assert_eq!(created["items"][0]["status"], 201, "{created}");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_lists_at_most_100_members() {
    let app = spawn_app().await;
    create_many(&app, 100, json!({})).await;
    create_many(&app, 1, json!({})).await;
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    for number in 0..101 {
        assert_eq!(fetch(&app, &format!("m{number}"), 1).await.len(), 1);
    }
    let status = status(&app).await;
    assert_eq!((status["leased"].clone(), members(&status)), (json!(101), 100));
}

/// The number of members that a status lists.
fn members(status: &Value) -> usize {
    status["members"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn size_of_a_fetch_is_bounded() {
    let app = spawn_app().await;
    let attributes = json!({ "text": "x".repeat(16_000) });
    create_many(&app, 50, attributes.clone()).await;
    create_many(&app, 50, attributes).await;
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    let first = fetch(&app, "a", 200).await;
    let size: usize = first.iter().map(|event| event["changes"].to_string().len()).sum();
    assert!((900_000..=1_048_576).contains(&size), "{size}");
    let second = fetch(&app, "b", 200).await;
    assert_eq!(first.len() + second.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_held_back_are_bounded() {
    let app = spawn_app().await;
    consumer_from_beginning(&app).await;
    store::hold_back_events(&app, 10_000).await;
    session_with_versions(&app, &THREE, 1).await;
    let body = json!({ "member": "a" });
    let fetched = result(post_to(&app, app.address, "fetch", &body).await).await;
    assert_eq!(fetched, json!({ "events": [], "state": "full" }));
    let discard = json!({ "discard": true });
    let released = result(post_to(&app, app.address, "release", &discard).await).await;
    assert_eq!(released, json!({ "released": 10_000 }));
    assert_eq!(fetch(&app, "a", 50).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn active_events_are_bounded() {
    let app = spawn_app().await;
    for _ in 0..11 {
        create_many(&app, 100, json!({})).await;
    }
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    let mut events = Vec::new();
    loop {
        let fetched = fetch(&app, "a", 200).await;
        if fetched.is_empty() {
            break;
        }
        events.extend(fetched);
    }
    assert_eq!(events.len(), 1_000);
    let body = json!({ "member": "b" });
    let fetched = result(post_to(&app, app.address, "fetch", &body).await).await;
    assert_eq!(fetched, json!({ "events": [], "state": "full" }));
    assert_eq!(acknowledge(&app, "a", &events[..10]).await, (10, vec![]));
    assert_eq!(fetch(&app, "b", 200).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_the_lag_and_warn_of_unused_consumers() {
    let app = spawn().await;
    session_with_versions(&app, &THREE, 3).await;
    consumer_from_beginning(&app).await;
    let shown = async |expected: [f64; 6]| {
        wait_until("the numbers of consumers", async || {
            let page = scrape(&app).await;
            let names = [
                "s",
                "s_idle",
                "_max_lag_events",
                "_events_leased",
                "_events_ready",
                "_events_parked",
            ];
            names.map(|name| page.has(&format!("muster_consumer{name}"))) == expected
        })
        .await;
    };
    shown([1.0, 0.0, 3.0, 0.0, 0.0, 0.0]).await;
    let events = fetch(&app, "a", 1).await;
    shown([1.0, 0.0, 3.0, 1.0, 2.0, 0.0]).await;
    acknowledge(&app, "a", &events).await;
    store::hold_back_events(&app, 2).await;
    store::age_consumers(&app).await;
    shown([1.0, 1.0, 2.0, 0.0, 2.0, 2.0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unused_consumer_is_removed() {
    let app = spawn_app().await;
    consumer_from_beginning(&app).await;
    store::age_consumers(&app).await;
    // A server looks for unused consumers when it starts.
    let (_, shutdown_signal) = app.another_instance().await;
    let removed = async || store::count_consumer_rows(&app.pool).await == (0, 0, 0);
    wait_until("the removal of the consumer", removed).await;
    consumer_from_beginning(&app).await;
    store::age_consumers(&app).await;
    fetch(&app, "a", 1).await;
    let used_at = status(&app).await["usedAt"].clone();
    assert!(used_at.as_str().unwrap() > "2020", "a fetch renews the time of use: {used_at}");
    shutdown_signal.stop();
}
