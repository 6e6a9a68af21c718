//! Fetches that wait.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    MIRROR, acknowledge, changes, consumer_from_beginning, fetch, post_to, put, send,
    session_with_versions, wait_numbered,
};
use crate::harness::{TestApp, spawn_app, store, wait_until};
use crate::metrics::{self, scrape};
use crate::v1::{problem, result};

const THREE: [&str; 3] = ["alice", "bob", "carol"];

/// A fetch that waits for a minute.
async fn waiting(app: &TestApp) -> reqwest::Response {
    post_to(app, app.address, "fetch", &json!({ "member": "w", "wait": "60s" })).await
}

/// Runs `cause` while a fetch waits. Returns the response of the fetch.
async fn while_waiting<T>(app: &TestApp, cause: impl Future<Output = T>) -> reqwest::Response {
    let cause = async {
        wait_waiting(app, 1).await;
        cause.await
    };
    tokio::join!(waiting(app), cause).0
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_fetch_gets_an_event_as_soon_as_there_is_one() {
    // The wait is longer than the limit of a request.
    let app =
        metrics::spawn_with(|settings| settings.server.request_timeout = Duration::from_secs(4))
            .await;
    consumer_from_beginning(&app).await;
    let response = while_waiting(&app, async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        session_with_versions(&app, &THREE, 1).await
    });
    let events: Value = result(response.await).await["events"].clone();
    assert_eq!(changes(events.as_array().unwrap()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_fetch_gets_the_share_of_a_dead_member() {
    let app = metrics::spawn().await;
    session_with_versions(&app, &THREE, 1).await;
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    assert_eq!(fetch(&app, "dead", 50).await.len(), 1);
    let response = while_waiting(&app, store::end_leases(&app, Some("dead"))).await;
    assert_eq!(result(response).await["events"][0]["attempt"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_without_an_event_ends_with_an_empty_response() {
    let app = spawn_app().await;
    consumer_from_beginning(&app).await;
    let body = json!({ "member": "w", "wait": "1s" });
    let fetched = result(post_to(&app, app.address, "fetch", &body).await).await;
    assert_eq!(fetched, json!({ "events": [], "state": "caughtUp" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_ends_with_the_server() {
    let app = metrics::spawn().await;
    consumer_from_beginning(&app).await;
    let response = while_waiting(&app, async { app.shutdown_signal.stop() }).await;
    assert_eq!(result(response).await, json!({ "events": [], "state": "caughtUp" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_of_a_revoked_key_ends() {
    let app = metrics::spawn().await;
    consumer_from_beginning(&app).await;
    let response = while_waiting(&app, store::revoke_key(&app.pool, &app.api_key)).await;
    let (status, code, _) = problem(response).await;
    assert_eq!((status, code.as_str()), (401, "invalid_api_key"));
}

/// The number of statements of the pool.
async fn statements(app: &TestApp) -> f64 {
    scrape(app).await.has("muster_pool_wait_seconds_count")
}

/// Waits until this many fetches wait.
async fn wait_waiting(app: &TestApp, fetches: usize) {
    let waiting = async || scrape(app).await.has("muster_feed_waiting_requests") == fetches as f64;
    wait_until("the fetches wait", waiting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_waiting_fetches_cost_few_statements() {
    const FETCHES: usize = 20;
    let app = metrics::spawn().await;
    consumer_from_beginning(&app).await;
    let before = statements(&app).await;
    let waits = (0..FETCHES).map(async |number| {
        // One client: to make twenty takes so long that the server would close the first connections.
        let body = json!({ "member": format!("w{number}"), "wait": "4s" });
        result(send(&app, Method::POST, &format!("{MIRROR}/fetch"), &body).await).await
    });
    for fetched in join_all(waits).await {
        assert_eq!(fetched, json!({ "events": [], "state": "caughtUp" }));
    }
    // A fetch is a claim, a page and a check, and a check more if the hub begins to read meanwhile. Each counts
    // twice if it waits for the share of the enterprise. A check every 100 ms would be 800 statements.
    let statements = statements(&app).await - before;
    println!("{statements} statements for {FETCHES} fetches");
    assert!(statements <= 12.0 * FETCHES as f64, "{statements}");
}

#[tokio::test(flavor = "multi_thread")]
async fn change_wakes_a_waiting_fetch_whose_filter_it_matches() {
    let app = metrics::spawn().await;
    put(&app, MIRROR, json!({ "filter": { "member": "carol" } })).await;
    // The wait ends before the fetch would check by itself.
    let body = json!({ "member": "w", "wait": "4s" });
    let try_once = async || {
        let cause = async {
            wait_waiting(&app, 1).await;
            let only_waits = async || scrape(&app).await.has("http_requests_in_flight") == 0.0;
            wait_until("no request is in flight", only_waits).await;
            session_with_versions(&app, &["alice", "bob", "dave"], 1).await;
            session_with_versions(&app, &THREE, 1).await
        };
        let (response, id) = tokio::join!(post_to(&app, app.address, "fetch", &body), cause);
        let fetched = result(response).await["events"].as_array().unwrap().clone();
        if fetched.is_empty() {
            // The wait ended before the change had a number, because the machine is busy.
            wait_numbered(&app).await;
            let late = fetch(&app, "w", 1).await;
            assert_eq!(acknowledge(&app, "w", &late).await, (1, vec![]));
            return false;
        }
        assert_eq!(changes(&fetched), [(id, 1)]);
        true
    };
    wait_until("a change within the wait", try_once).await;
    wait_waiting(&app, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_fetch_sees_the_acts_of_other_requests() {
    let app = metrics::spawn().await;
    let id = session_with_versions(&app, &THREE, 2).await;
    consumer_from_beginning(&app).await;
    let first = fetch(&app, "a", 1).await;
    assert_eq!(changes(&first), [(id.clone(), 1)]);
    // The session is free for another member when its first change is done.
    let acting = async {
        wait_waiting(&app, 1).await;
        acknowledge(&app, "a", &first).await
    };
    let (response, done) = tokio::join!(waiting(&app), acting);
    assert_eq!(done, (1, vec![]));
    let events = result(response).await["events"].as_array().unwrap().clone();
    assert_eq!(changes(&events), [(id, 2)]);
    assert_eq!(acknowledge(&app, "w", &events).await, (1, vec![]));
    // The consumer goes back, and all its changes come again.
    let acting = async {
        wait_waiting(&app, 1).await;
        result(post_to(&app, app.address, "reset", &json!({ "start": "0" })).await).await
    };
    let (response, _) = tokio::join!(waiting(&app), acting);
    assert_eq!(result(response).await["events"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_fetch_sees_an_acknowledgement_through_another_server() {
    let app = metrics::spawn().await;
    let (other, shutdown_signal) = app.another_instance().await;
    let id = session_with_versions(&app, &THREE, 2).await;
    consumer_from_beginning(&app).await;
    let first = fetch(&app, "a", 1).await;
    let acting = async {
        wait_waiting(&app, 1).await;
        let body = json!({ "member": "a", "cursors": [first[0]["cursor"]] });
        result(post_to(&app, other, "ack", &body).await).await
    };
    let (response, _) = tokio::join!(waiting(&app), acting);
    let events = result(response).await["events"].as_array().unwrap().clone();
    assert_eq!(changes(&events), [(id, 2)]);
    shutdown_signal.stop();
}
