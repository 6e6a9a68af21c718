//! An app that asks for more than its share is refused; the others do not notice.

use std::time::Instant;

use muster::domain::Permission;
use reqwest::Method;
use serde_json::json;

use super::{Told, cgi, new_session, rest};
use crate::harness::{BUIN, refusal, spawn_app, spawn_app_with, wait_until};

/// Asks until the app's share is used up, and gives the answer of that moment. One request a second
/// comes back meanwhile and may be used too.
async fn ask_until_rejected(began: Instant, mut served: u64, ask: impl AsyncFn() -> Told) -> Told {
    loop {
        let told = ask().await;
        if told.status == 429 {
            return told;
        }
        served += 1;
        assert!(served <= 3 + began.elapsed().as_secs() + 1, "{served} were served");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn app_rate_limit_is_enforced() {
    let app = spawn_app_with(|settings| {
        settings.limits.requests_per_second = 1;
        settings.limits.burst = 3;
    })
    .await;
    // Every call counts, through either API, and it is the app's count.
    let began = Instant::now();
    app.client.token().await;
    assert_eq!(cgi(&app, "create", "", Some(new_session())).await.status, 200);
    assert_eq!(rest(&app, Method::GET, "/v1/limits", None).await.status, 200);
    let limits = async || rest(&app, Method::GET, "/v1/limits", None).await;
    let told = ask_until_rejected(began, 3, limits).await;
    assert_eq!((told.status, told.retry_after), (429, Some(1)), "{told:?}");
    assert_eq!(told.body["code"], "too_many_requests");
    let create = async || cgi(&app, "create", "", Some(new_session())).await;
    let told = ask_until_rejected(began, 3, create).await;
    assert_eq!((told.status, told.retry_after), (429, Some(1)), "{told:?}");
    assert_eq!(told.body, refusal(-1, "appId: too many requests, try again"));

    let (_, key) = app.another_app(BUIN, &[Permission::SessionsRead]).await;
    let other = app.client.request(Method::GET, "/v1/limits").bearer_auth(key);
    assert_eq!(other.send().await.unwrap().status(), 200, "another app has its own share");
    assert_eq!(app.client.get("/healthz").await.status(), 200);

    wait_until("a share comes back", async || limits().await.status != 429).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn app_rate_limit_is_off_by_default() {
    let app = spawn_app().await;
    for _ in 0..300 {
        let told = rest(&app, Method::GET, "/v1/limits", None).await;
        assert_eq!(told.status, 200, "{}", json!(told.body));
    }
}
