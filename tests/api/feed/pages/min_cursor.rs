//! `Muster-Min-Cursor`: a list includes every change up to a cursor, or is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster::clock::Clock;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{Caller, caller, next};
use crate::feed::complete_feed;
use crate::harness::{spawn_app, spawn_app_with_clock, store, wait_until};
use crate::v1::{problem, result};

const LISTS: [&str; 2] = ["/v1/sessions", "/v1/sessions?updatedSince=2020-01-01T00:00:00Z"];

async fn list(caller: &Caller, path: &str, cursor: &str) -> Response {
    let request = caller.client.request(Method::GET, path).bearer_auth(&caller.key);
    request.header("Muster-Min-Cursor", cursor).send().await.unwrap()
}

/// The reads that take the header.
async fn reads(caller: &Caller, id: &str, cursor: &str) -> Vec<Response> {
    let mut responses = vec![list(caller, &format!("/v1/sessions/{id}/events"), cursor).await];
    for path in LISTS {
        responses.push(list(caller, path, cursor).await);
    }
    let request = caller.client.request(Method::POST, "/v1/sessions/batch-get");
    let request = request.bearer_auth(&caller.key).header("Muster-Min-Cursor", cursor);
    responses.push(request.json(&json!({ "ids": [id] })).send().await.unwrap());
    responses
}

/// The same cursor at a number that is higher by `more`.
fn ahead(cursor: &str, more: u8) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap();
    bytes[16] += more;
    URL_SAFE_NO_PAD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn list_includes_the_change_at_the_cursor_or_is_refused() {
    let app = spawn_app().await;
    let (address, _shutdown_signal) = app.another_instance().await;
    let first = caller(&app);
    let second = Caller { client: first.client.at(address), ..first.clone() };
    let id = first.create(&["a", "b", "c"]).await;
    first.change(&id, "a", json!({ "title": "seen" })).await;
    complete_feed(&app.pool).await;
    let cursor = next(&first.page("").await);
    for response in reads(&second, &id, &cursor).await {
        let body = result(response).await;
        let item = body["items"].as_array().unwrap().last().unwrap();
        assert_eq!(item["version"], 2, "{body}");
    }
    // The database lacks the changes, as a new primary may after a failover.
    for response in reads(&second, &id, &ahead(&cursor, 1)).await {
        assert_eq!(response.headers()["retry-after"], "1");
        let (status, code, rest) = problem(response).await;
        let expected = (412, "cursor_not_reached".to_owned(), &json!("Muster-Min-Cursor"));
        assert_eq!((status, code, &rest["field"]), expected, "{rest}");
    }
    store::begin_another_epoch(&app).await;
    for cursor in [&cursor, &ahead(&cursor, 1)] {
        for response in reads(&second, &id, cursor).await {
            let (status, code, rest) = problem(response).await;
            let expected = (410, "cursor_expired".to_owned(), &json!("Muster-Min-Cursor"));
            assert_eq!((status, code, &rest["field"]), expected, "{rest}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn list_by_time_waits_until_it_has_the_change_at_the_cursor() {
    let app = spawn_app_with_clock(Clock::system()).await;
    let caller = caller(&app);
    let (late, id) = (caller.create(&["a", "b", "c"]).await, caller.create(&["a", "b", "c"]).await);
    complete_feed(&app.pool).await;
    let mut running = store::begin_late_update(&app, late.parse().unwrap()).await;
    caller.change(&id, "a", json!({ "title": "seen" })).await;
    let cursor = {
        let mut page = Value::Null;
        wait_until("the number of the change", async || {
            page = caller.page("").await;
            page["headSeq"] == 3
        })
        .await;
        next(&page)
    };
    // The list ends before the running change, and so before the change at the cursor.
    let (status, code, _) = problem(list(&caller, LISTS[1], &cursor).await).await;
    assert_eq!((status, code.as_str()), (412, "cursor_not_reached"));
    let listed = result(list(&caller, LISTS[0], &cursor).await).await;
    assert!(listed.to_string().contains("\"seen\""), "{listed}");
    store::commit(&mut running).await;
    let listed = result(list(&caller, LISTS[1], &cursor).await).await;
    let titles: Vec<&Value> =
        listed["items"].as_array().unwrap().iter().map(|item| &item["title"]).collect();
    assert!(titles.contains(&&json!("seen")), "{listed}");
}
