//! The rate limit of one app refuses its excess requests and leaves other apps alone.

use futures_util::future::join_all;
use muster::domain::Permission;
use reqwest::Method;
use serde_json::json;

use super::{Reply, cgi, new_session, rest};
use crate::harness::{BUIN, refusal, spawn_app, spawn_app_with, wait_until};

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
        settings.limits.burst = u32::try_from(BURST).unwrap();
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
    assert_eq!(reply.body["code"], "too_many_requests");
    let reply = send_until_refused(create).await;
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
