//! Overload: most requests are refused at once, some are served, and the service recovers
//! afterwards.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use muster::config::Settings;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use super::{
    Reply, cgi, new_rest_session, new_session, rest, until_locked, until_queued,
    with_long_timeouts, with_one_connection,
};
use crate::harness::{TestApp, refusal, spawn_app_with, store, wait_until};

/// One thread and one request in each statement, so that the queue grows quickly.
fn with_single_statements(settings: &mut Settings) {
    settings.server.workers = 1;
    settings.server.request_timeout = Duration::from_secs(8);
    settings.database.max_batch = 1;
    settings.database.max_connections = 2;
    settings.cache.enabled = false;
    settings.delivery.enabled = false;
}

/// Sends `count` creates at the same time and returns the replies in their order of arrival.
async fn creates(app: &TestApp, count: usize) -> Vec<Reply> {
    next_replies(&mut begin_creates(app, count), count).await
}

async fn next_replies(calls: &mut JoinSet<Reply>, count: usize) -> Vec<Reply> {
    let mut replies = Vec::new();
    while replies.len() < count {
        replies.push(calls.join_next().await.unwrap().unwrap());
    }
    replies
}

fn begin_creates(app: &TestApp, count: usize) -> JoinSet<Reply> {
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let (client, key) = (app.client.clone(), app.api_key.clone());
        calls.spawn(async move {
            let path = format!("/cgi/session/create?accessToken={key}");
            Reply::from_response(client.post(&path, new_session().to_string()).await).await
        });
    }
    calls
}

fn is_served(reply: &Reply) -> bool {
    reply.status == 200 && reply.body["errcode"] == 0
}

/// Whether the request was refused at once. A request that waited and timed out gets another text.
fn is_shed(reply: &Reply) -> bool {
    let errmsg = "the service is overloaded, try again";
    reply.status == 503
        && reply.retry_after.is_some_and(|wait| (1..=300).contains(&wait))
        && reply.body == refusal(-1, errmsg)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_database_sheds_excess_requests_at_once() {
    let app = spawn_app_with(with_single_statements).await;
    store::slow_down_creates(&app, 0.2).await;
    // The server must have measured slow statements first.
    creates(&app, 3).await;
    for _ in 0..9 {
        creates(&app, 1).await;
    }
    let replies = creates(&app, 100).await;
    let (served, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| is_served(reply));
    assert!((3..50).contains(&served.len()), "{} of 100 were served", served.len());
    // Some requests were queued because a start in time was predicted, and then timed out.
    let shed: Vec<_> = refused.iter().filter(|reply| is_shed(reply)).collect();
    assert!(refused.iter().all(|reply| reply.status == 503), "{refused:#?}");
    assert!(shed.len() + 10 >= refused.len(), "{} of {}", shed.len(), refused.len());
    // A request is refused at once because others wait, and these are answered later.
    assert!(!is_shed(replies.last().unwrap()), "{replies:#?}");
    let health = app.client.get("/healthz").await;
    assert_eq!(health.status(), 200);

    store::speed_up_creates(&app).await;
    assert!(is_served(&creates(&app, 1).await[0]));
    // The server forgets the slow statements after a few others. Half of the forty requests would
    // time out if each statement still took as long as before.
    wait_until("all of forty are served", async || {
        creates(&app, 1).await;
        creates(&app, 40).await.iter().all(is_served)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_endpoints_answer_while_the_database_is_blocked() {
    let app = spawn_app_with(with_single_statements).await;
    app.session(&["a", "b", "c"]).await;
    let locked = store::lock_sessions(&app).await;
    let rounds = async {
        let mut replies = Vec::new();
        for _ in 0..3 {
            replies.extend(creates(&app, 50).await);
        }
        replies
    };
    let health = async {
        for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/v1/limits", 401)].repeat(5) {
            // The database may be too slow for one probe on a busy machine.
            wait_until(path, async || app.client.get(path).await.status() == status).await;
        }
    };
    let (replies, ()) = tokio::join!(rounds, health);
    assert!(replies.iter().all(|reply| reply.status == 503), "{replies:#?}");
    // The first round arrives before any slow statement was measured. Later rounds arrive behind a
    // statement that does not end.
    let shed = replies[50..].iter().filter(|reply| is_shed(reply)).count();
    assert!(shed > 80, "{shed} of 100 requests were refused at once");
    drop(locked);
    for _ in 0..10 {
        assert!(is_served(&cgi(&app, "create", "", Some(new_session())).await));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn few_requests_wait_after_a_statement_timeout() {
    let app = spawn_app_with(|settings| {
        with_single_statements(settings);
        settings.database.max_batch = 64;
    })
    .await;
    let locked = store::lock_sessions(&app).await;
    assert!(creates(&app, 30).await.iter().all(|reply| reply.status == 503));
    // Statements are shared, so all of these requests could wait for one.
    for round in 0..2 {
        let replies = creates(&app, 30).await;
        let waited: Vec<_> = replies.iter().filter(|reply| !is_shed(reply)).collect();
        assert!(waited.len() <= 2, "round {round}: {waited:#?}");
    }
    drop(locked);
    assert!(is_served(&creates(&app, 1).await[0]));
    wait_until("all of thirty are served", async || creates(&app, 30).await.iter().all(is_served))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_length_is_bounded() {
    let app = spawn_app_with(|settings| {
        with_single_statements(settings);
        with_long_timeouts(settings);
        settings.limits.max_queued = 4;
    })
    .await;
    let locked = store::lock_sessions(&app).await;
    let mut first = begin_creates(&app, 1);
    until_locked(&app).await;
    // One request is in a statement, and four wait.
    let mut calls = begin_creates(&app, 39);
    let refused = next_replies(&mut calls, 35).await;
    assert!(refused.iter().all(is_shed), "{refused:#?}");
    drop(locked);
    let served = [next_replies(&mut first, 1).await, next_replies(&mut calls, 4).await].concat();
    assert!(served.iter().all(is_served), "{served:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unbatched_requests_are_shed_too() {
    let app = spawn_app_with(|settings| {
        with_single_statements(settings);
        with_long_timeouts(settings);
        settings.limits.max_queued = 3;
    })
    .await;
    let locked = store::lock_sessions(&app).await;
    let list = || rest(&app, Method::GET, "/v1/sessions", None);
    // Two requests have a connection and three wait. The others are refused while the lock is held.
    let mut lists: FuturesUnordered<_> = (0..40).map(|_| list()).collect();
    for reply in lists.by_ref().take(35).collect::<Vec<_>>().await {
        assert_eq!((reply.status, &reply.body["status"]), (503, &json!(503)));
        assert_eq!(reply.body["code"], "overloaded");
        assert!(reply.retry_after.is_some(), "{reply:?}");
    }
    drop(locked);
    let waited: Vec<_> = lists.map(|reply| reply.status).collect().await;
    assert_eq!(waited, [200; 5]);
    assert_eq!(list().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn few_items_of_a_batch_run_at_once() {
    let app = spawn_app_with(|settings| {
        with_one_connection(settings);
        with_long_timeouts(settings);
    })
    .await;
    let locked = store::lock_sessions(&app).await;
    // The batcher is busy, so all items that run wait in its queue.
    let batch = json!({ "items": vec![json!({ "create": new_rest_session() }); 40] });
    let (first, replies, ()) = tokio::join!(
        cgi(&app, "create", "", Some(new_session())),
        async {
            until_locked(&app).await;
            rest(&app, Method::POST, "/v1/sessions/batch", Some(batch)).await
        },
        async {
            until_locked(&app).await;
            until_queued(&app, "create", 8).await;
            drop(locked);
        }
    );
    assert_eq!(first.body["errcode"], 0, "{first:?}");
    let items = replies.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 40);
    assert!(items.iter().all(|item| item["status"] == 201), "{items:?}");
}
