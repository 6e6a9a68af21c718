//! The rate limit of one app refuses its excess requests and leaves other apps alone.

use std::time::Instant;

use muster::domain::Permission;
use reqwest::Method;
use serde_json::json;

use super::{Reply, cgi, new_session, rest};
use crate::harness::{BUIN, refusal, spawn_app, spawn_app_with, wait_until};

/// Sends requests until the rate limit refuses one, and returns that reply. The limit allows one
/// more request each second meanwhile.
async fn ask_until_rejected(
    began: Instant,
    mut served: u64,
    ask: impl AsyncFn() -> Reply,
) -> Reply {
    loop {
        let reply = ask().await;
        if reply.status == 429 {
            return reply;
        }
        served += 1;
        assert!(served <= 3 + began.elapsed().as_secs() + 1, "{served} requests were served");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn app_rate_limit_is_enforced() {
    let app = spawn_app_with(|settings| {
        settings.limits.requests_per_second = 1;
        settings.limits.burst = 3;
    })
    .await;
    // Calls of both APIs count towards the same limit.
    let began = Instant::now();
    app.client.token().await;
    assert_eq!(cgi(&app, "create", "", Some(new_session())).await.status, 200);
    assert_eq!(rest(&app, Method::GET, "/v1/limits", None).await.status, 200);
    let limits = async || rest(&app, Method::GET, "/v1/limits", None).await;
    let reply = ask_until_rejected(began, 3, limits).await;
    assert_eq!((reply.status, reply.retry_after), (429, Some(1)), "{reply:?}");
    assert_eq!(reply.body["code"], "too_many_requests");
    let create = async || cgi(&app, "create", "", Some(new_session())).await;
    let reply = ask_until_rejected(began, 3, create).await;
    assert_eq!((reply.status, reply.retry_after), (429, Some(1)), "{reply:?}");
    assert_eq!(reply.body, refusal(-1, "appId: too many requests, try again"));

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
