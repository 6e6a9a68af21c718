//! An app that asks for more than its share is refused; the others do not notice.

use std::time::Duration;

use muster::domain::Permission;
use reqwest::Method;
use serde_json::json;

use super::{cgi, new_session, rest};
use crate::harness::{BUIN, refusal, spawn_app, spawn_app_with};

#[tokio::test(flavor = "multi_thread")]
async fn an_app_has_so_many_requests_and_no_more() {
    let app = spawn_app_with(|settings| {
        settings.limits.requests_per_second = 1;
        settings.limits.burst = 3;
    })
    .await;
    // Every call counts, through either API, and it is the app's count.
    app.client.token().await;
    assert_eq!(cgi(&app, "create", "", Some(new_session())).await.status, 200);
    assert_eq!(rest(&app, Method::GET, "/v1/limits", None).await.status, 200);
    let told = rest(&app, Method::GET, "/v1/limits", None).await;
    assert_eq!((told.status, told.retry_after), (429, Some(1)), "{told:?}");
    assert_eq!(told.body["code"], "too_many_requests");
    let told = cgi(&app, "create", "", Some(new_session())).await;
    assert_eq!((told.status, told.retry_after), (429, Some(1)), "{told:?}");
    assert_eq!(told.body, refusal(-1, "appId: too many requests, try again"));

    let (_, key) = app.another_app(BUIN, &[Permission::SessionsRead]).await;
    let other = app.client.request(Method::GET, "/v1/limits").bearer_auth(key);
    assert_eq!(other.send().await.unwrap().status(), 200, "another app has its own share");
    assert_eq!(app.client.get("/healthz").await.status(), 200);

    let again = async { while rest(&app, Method::GET, "/v1/limits", None).await.status == 429 {} };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("a share comes back");
}

#[tokio::test(flavor = "multi_thread")]
async fn usually_there_is_no_such_limit() {
    let app = spawn_app().await;
    for _ in 0..300 {
        let told = rest(&app, Method::GET, "/v1/limits", None).await;
        assert_eq!(told.status, 200, "{}", json!(told.body));
    }
}
