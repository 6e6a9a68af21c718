//! The rate limit of one app refuses its excess requests and leaves other apps alone.

use futures_util::future::join_all;
use muster::domain::Permission;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Reply, cgi, new_rest_session, new_session, rest};
use crate::harness::{
    BUIN, TestApp, refusal, spawn_app, spawn_app_with, store, test_start_time, wait_until,
};

const BURST: usize = 40;

/// Sends requests until the rate limit refuses one, and returns that reply. The limit allows one
/// more request each second meanwhile.
async fn send_until_refused(send: impl AsyncFn() -> Reply) -> Reply {
    let mut reply = send().await;
    wait_until("a refused request", async || {
        if reply.status != 429 {
            reply = send().await;
        }
        reply.status == 429
    })
    .await;
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn app_rate_limit_is_enforced() {
    let app = spawn_app_with(|settings| {
        settings.limits.requests_per_second = 1;
        settings.limits.max_burst = u32::try_from(BURST).unwrap();
    })
    .await;
    let limits = async || rest(&app, Method::GET, "/v1/limits", None).await;
    let create = async || cgi(&app, "create", "", Some(new_session())).await;
    // Both APIs count towards the same limit. With a limit for each API, none of these requests
    // would be refused.
    let (rest_replies, cgi_replies) = tokio::join!(
        join_all((0..BURST).map(|_| limits())),
        join_all((0..BURST).map(|_| create())),
    );
    let replies = [rest_replies, cgi_replies].concat();
    let served = replies.iter().filter(|reply| reply.status == 200).count();
    let refused = replies.iter().filter(|reply| reply.status == 429).count();
    assert_eq!(served + refused, 2 * BURST, "{replies:?}");
    assert!((BURST..2 * BURST).contains(&served), "{served} requests were served");

    let reply = send_until_refused(limits).await;
    assert_eq!((reply.status, reply.retry_after), (429, Some(1)), "{reply:?}");
    assert_eq!(
        (&reply.body["code"], &reply.body["limit"]),
        (&json!("too_many_requests"), &json!(1))
    );
    let reply = send_until_refused(create).await;
    assert_eq!((reply.status, reply.retry_after), (429, Some(1)), "{reply:?}");
    let errmsg = "appId: the request rate is at most 1 per second, got more";
    assert_eq!(reply.body, refusal(-1, errmsg));

    let (_, key) = app.another_app(BUIN, &[Permission::SessionsRead]).await;
    let other = app.client.request(Method::GET, "/v1/limits").bearer_auth(key);
    assert_eq!(other.send().await.unwrap().status(), 200, "another app has its own limit");
    assert_eq!(app.client.get("/healthz").await.status(), 200);

    wait_until("the limit allows a request again", async || limits().await.status != 429).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn app_rate_limit_is_off_by_default() {
    let app = spawn_app().await;
    for _ in 0..300 {
        let reply = rest(&app, Method::GET, "/v1/limits", None).await;
        assert_eq!(reply.status, 200, "{}", json!(reply.body));
    }
}

/// A server whose limit allows a burst and then hardly anything, and some sessions.
async fn spawn_with_sessions(sessions: i32) -> (TestApp, Vec<Value>) {
    let app = spawn_app_with(|settings| {
        settings.limits.requests_per_second = 1;
        settings.limits.max_burst = u32::try_from(BURST).unwrap();
    })
    .await;
    store::insert_many_sessions(&app, test_start_time(), sessions).await;
    let id = |number: usize| uuid::Uuid::from_u128(number as u128).to_string();
    let ids = (1..=BURST).map(|number| json!(id(number))).collect();
    (app, ids)
}

/// The number of requests that the limit still allows. They are used up then.
async fn allowed(app: &TestApp) -> usize {
    let mut served = 0;
    while rest(app, Method::GET, "/v1/limits", None).await.status == 200 {
        served += 1;
    }
    served
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_of_a_batch_counts_as_a_request() {
    for is_write in [false, true] {
        let (app, ids) = spawn_with_sessions(0).await;
        let create = json!({ "create": new_rest_session() });
        let batch = async |items: usize| match is_write {
            true => {
                let items = json!({ "items": vec![create.clone(); items] });
                rest(&app, Method::POST, "/v1/sessions/batch", Some(items)).await
            }
            false => {
                // Each id twice: a repeated id is not read again.
                let ids = [&ids[..items], &ids[..items]].concat();
                let ids = json!({ "ids": ids });
                rest(&app, Method::POST, "/v1/sessions/batch-get", Some(ids)).await
            }
        };
        // More than the burst is as much as the burst: a full one is enough for any batch. The limit
        // allows one more request in each second that passes.
        assert_eq!(batch(BURST / 2).await.status, 200);
        let refused = batch(BURST).await;
        assert_eq!((refused.status, &refused.body["code"]), (429, &json!("too_many_requests")));
        let wait = refused.retry_after.unwrap();
        assert!((2..=BURST as u64 / 2 + 2).contains(&wait), "{wait}");
        let left = allowed(&app).await;
        assert!((BURST / 4..BURST).contains(&left), "{left} requests were allowed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_that_is_larger_than_the_burst_is_served_by_a_full_one() {
    let app = spawn_app_with(|settings| {
        settings.limits.requests_per_second = 1;
        settings.limits.max_burst = 3;
    })
    .await;
    let items = json!({ "items": vec![json!({ "create": new_rest_session() }); 100] });
    let batch =
        async || rest(&app, Method::POST, "/v1/sessions/batch", Some(items.clone())).await.status;
    assert_eq!(batch().await, 200);
    assert_eq!(batch().await, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_session_of_a_page_counts_as_a_request() {
    let half = i32::try_from(BURST / 2).unwrap();
    let (app, _) = spawn_with_sessions(half).await;
    let page = async || rest(&app, Method::GET, "/v1/sessions?limit=200", None).await;
    // The page after the last allowed request is served. Only the next request is refused.
    let first = page().await;
    assert_eq!((first.status, first.body["items"].as_array().unwrap().len()), (200, BURST / 2));
    assert_eq!(page().await.status, 200);
    let left = allowed(&app).await;
    assert!(left < BURST / 4, "{left} requests were allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_page_counts_as_one_request() {
    let (app, _) = spawn_with_sessions(0).await;
    for _ in 0..BURST / 2 {
        let page = rest(&app, Method::GET, "/v1/sessions?limit=200", None).await;
        assert_eq!(page.status, 200, "{page:?}");
    }
}
