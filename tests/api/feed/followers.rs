//! The followers of the feed: the cache and the callback worker, with and without a sequencer.

use std::time::Duration;

use serde_json::json;

use super::complete_feed;
use crate::callbacks::receiver::Receiver;
use crate::callbacks::subscribe;
use crate::harness::{spawn_app, spawn_app_with, store, unshared, wait_until, wait_until_equal};
use crate::metrics::scrape;

#[tokio::test(flavor = "multi_thread")]
async fn cache_is_right_while_no_server_numbers_changes() {
    let app =
        spawn_app_with(|settings| settings.metrics.bind = Some("127.0.0.1:0".to_owned())).await;
    let (address, _shutdown_signal) = app.another_instance().await;
    let other_server = app.client.at(address);
    let token = other_server.token().await;
    let session = app.session(&["a", "b", "c"]).await;
    complete_feed(&app.pool).await;
    let mut locked = store::lock_feed(&app).await;
    for number in 2..8 {
        let update = json!({
            "sessionId": session["sessionId"], "opUser": "a", "title": format!("t {number}"),
        });
        let changed = other_server.post_sealed(&token, "/cgi/session/update", &update).await;
        assert_eq!(changed["version"], number, "{changed}");
        wait_until_equal(async || app.current(&session).await["version"].clone(), &json!(number))
            .await;
        // The session is then read from memory.
        if !unshared() {
            let hits = scrape(&app).await.has("muster_cache_hits_total");
            wait_until("a hit", async || {
                assert_eq!(app.current(&session).await["version"], number);
                scrape(&app).await.has("muster_cache_hits_total") > hits
            })
            .await;
        }
    }
    assert_eq!(store::feed_rows(&app.pool).await.len(), 1, "no change has a number meanwhile");
    store::unlock(&mut locked).await;
    assert_eq!(complete_feed(&app.pool).await.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn number_of_changes_in_a_poll_is_bounded() {
    let app = spawn_app().await;
    for _ in 0..3 {
        app.session(&["a", "b", "c"]).await;
    }
    complete_feed(&app.pool).await;
    for (limit, is_truncated) in [(10, false), (2, true)] {
        assert_eq!(store::is_feed_truncated(&app, limit).await, is_truncated, "{limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn change_of_another_server_wakes_the_callback_worker() {
    let app = spawn_app_with(|settings| settings.delivery.enabled = false).await;
    let receiver = Receiver::start().await;
    subscribe(&app, &receiver).await;
    let mut with_worker = app.settings.clone();
    with_worker.delivery.enabled = true;
    with_worker.delivery.poll_interval = Duration::from_secs(86_400);
    let (_, _shutdown_signal) = app.another_instance_with(&with_worker).await;
    // The worker learns of the subscriber at its first poll, a moment after its start.
    wait_until("the first callback", async || {
        app.session(&["a", "b", "c"]).await;
        !receiver.calls().is_empty()
    })
    .await;
    for _ in 0..5 {
        let before = receiver.calls().len();
        app.session(&["a", "b", "c"]).await;
        wait_until("another callback", async || receiver.calls().len() > before).await;
    }
}
