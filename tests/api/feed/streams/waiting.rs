//! Pages that wait for a change.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{EVENTS, another_key, page, rename};
use crate::feed::complete_feed;
use crate::harness::{store, wait_until, wait_until_equal};
use crate::metrics::{scrape, spawn};
use crate::v1::{create_session, problem, refused, request, result};

const WAITING: &str = "muster_feed_waiting_requests";

#[tokio::test(flavor = "multi_thread")]
async fn page_waits_for_the_next_change_that_matches() {
    let app = spawn().await;
    let (first, _) = create_session(&app, &["alice", "bob", "carol"]).await;
    // Changes of the same time have no fixed order.
    complete_feed(&app.pool).await;
    let (second, _) = create_session(&app, &["alice", "dave", "erin"]).await;
    complete_feed(&app.pool).await;
    let (_, start) = page(&app, "").await;
    let after = start["nextCursor"].as_str().unwrap();
    let path = format!("{EVENTS}?after={after}&wait=60s&member=bob");
    let request = request(&app, Method::GET, &path);
    let waiting = tokio::spawn(async move { result(request.send().await.unwrap()).await });
    wait_until("the request waits", async || scrape(&app).await.has(WAITING) == 1.0).await;
    assert_eq!(scrape(&app).await.has("http_requests_in_flight"), 0.0, "it only waits");
    rename(&app, &second, "not bob's").await;
    let seen = async || scrape(&app).await.has("muster_feed_head") >= 3.0;
    wait_until("the change has a number", seen).await;
    assert!(!waiting.is_finished());
    rename(&app, &first, "bob's").await;
    let found = waiting.await.unwrap();
    let events = found["events"].as_array().unwrap();
    assert_eq!((events.len(), &events[0]["seq"]), (1, &json!(4)), "{found}");
    assert_eq!(events[0]["prevSeq"], 1);
    wait_until_equal(async || json!(scrape(&app).await.has(WAITING)), &json!(0.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page_with_changes_does_not_wait_and_an_empty_one_ends_in_time() {
    let app = spawn().await;
    create_session(&app, &["alice", "bob", "carol"]).await;
    complete_feed(&app.pool).await;
    let (events, _) = page(&app, "after=0&wait=60s").await;
    assert_eq!(events.len(), 1);
    let (events, found) = page(&app, "wait=1s").await;
    assert_eq!((events.len(), &found["caughtUp"]), (0, &json!(true)));
    for wait in ["0s", "61s", "060s", "1", "x"] {
        let path = format!("{EVENTS}?wait={wait}");
        let refusal = refused(&app, Method::GET, &path, &json!(null)).await;
        assert_eq!(refusal, (400, "invalid_parameter".to_owned(), json!("wait")), "{wait}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_may_be_longer_than_the_request_timeout() {
    // A statement has this time also on a busy machine.
    const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
    let app = crate::metrics::spawn_with(|settings| {
        settings.server.request_timeout = 2 * STATEMENT_TIMEOUT + Duration::from_secs(1);
        settings.database.acquire_timeout = STATEMENT_TIMEOUT;
        settings.database.statement_timeout = STATEMENT_TIMEOUT;
    })
    .await;
    let (events, _) = page(&app, "wait=7s").await;
    assert_eq!(events.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_request_ends_with_its_key_and_with_the_server() {
    let app = spawn().await;
    let key = another_key(&app).await;
    let wait = |key: &str| {
        let path = format!("{EVENTS}?wait=60s");
        let request = app.client.request(Method::GET, &path).bearer_auth(key);
        tokio::spawn(async move { request.send().await.unwrap() })
    };
    let (revoked, stopped) = (wait(&key), wait(&app.api_key));
    wait_until("two requests wait", async || scrape(&app).await.has(WAITING) == 2.0).await;
    store::revoke_key(&app.pool, &key).await;
    let (status, code, _) = problem(revoked.await.unwrap()).await;
    assert_eq!((status, code.as_str()), (401, "invalid_api_key"));
    app.shutdown_signal.stop();
    let found = result(stopped.await.unwrap()).await;
    assert_eq!((&found["events"], &found["caughtUp"]), (&json!([]), &json!(true)));
}
