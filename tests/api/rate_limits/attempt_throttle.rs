//! Invalid credentials are throttled by address, with growing delays. Valid credentials from the
//! same address are served.

use std::time::Duration;

use muster::config::Settings;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Reply, new_session, rest};
use crate::harness::client::Client;
use crate::harness::store::lock_credentials;
use crate::harness::{TestApp, refusal, spawn_app, spawn_app_with};

const WRONG: &str = "msk_0000000000000000000000000000000000000000000";

fn three_attempts(settings: &mut Settings) {
    settings.limits.max_failed_attempts = 3;
}

/// Reads a session that does not exist.
async fn get(app: &TestApp, token: &str) -> Reply {
    let id = "00000000-0000-7000-8000-000000000000";
    let path = format!("/cgi/session/get?accessToken={token}&sessionId={id}");
    Reply::from_response(app.client.get(&path).await).await
}

async fn gettoken(client: &Client, time: &str) -> Reply {
    let response = client.post("/cgi/gettoken", client.envelope(time).to_string()).await;
    Reply::from_response(response).await
}

fn assert_unknown(reply: &Reply) {
    let unknown = refusal(100_001, "accessToken: access token does not exist");
    assert_eq!((reply.status, &reply.body), (200, &unknown));
}

fn assert_throttled(reply: &Reply, wait: u64) {
    assert_eq!((reply.status, reply.retry_after), (429, Some(wait)), "{reply:?}");
    let errmsg = "accessToken: at most 3 invalid attempts from an address without a wait, got more";
    assert_eq!(reply.body, refusal(-1, errmsg));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_attempts_throttle_only_their_address() {
    let app = spawn_app_with(three_attempts).await;
    let token = app.client.token().await;
    for _ in 0..3 {
        assert_unknown(&get(&app, WRONG).await);
    }
    for wait in [1, 2, 4, 8] {
        assert_throttled(&get(&app, WRONG).await, wait);
        assert_throttled(&get(&app, "forged").await, wait);
        let request = app.client.request(Method::GET, "/v1/limits").bearer_auth(WRONG);
        let reply = Reply::from_response(request.send().await.unwrap()).await;
        assert_eq!((reply.status, reply.retry_after), (429, Some(wait)), "{reply:?}");
        assert_eq!(reply.body["code"], "too_many_failed_attempts");
        // Valid credentials are served from a throttled address.
        for valid in [&token, &app.api_key] {
            let reply = get(&app, valid).await;
            assert_eq!((reply.status, &reply.body["errcode"]), (200, &json!(400_003)), "{reply:?}");
        }
        assert_eq!(rest(&app, Method::GET, "/v1/limits", None).await.status, 200);
        app.clock.advance(Duration::from_secs(wait));
        assert_unknown(&get(&app, WRONG).await);
    }
    app.clock.advance(Duration::from_secs(16 + 60));
    for _ in 0..3 {
        assert_unknown(&get(&app, WRONG).await);
    }
    assert_throttled(&get(&app, WRONG).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_token_requests_count_and_hide_the_reason() {
    let app = spawn_app_with(three_attempts).await;
    let time = app.client.clock.now().timestamp().to_string();
    let mut other = app.client.clone();
    other.key[0] ^= 1;
    let unknown = Client { app_id: "nobody".to_owned(), ..app.client.clone() };
    for (client, time, errcode) in
        [(&other, time.as_str(), 100_006), (&app.client, "7", 100_006), (&unknown, &time, 100_005)]
    {
        let reply = gettoken(client, time).await;
        assert_eq!((reply.status, &reply.body["errcode"]), (200, &json!(errcode)), "{reply:?}");
    }
    let long_time = "7".repeat(2_000);
    for (client, time) in [(&other, time.as_str()), (&app.client, "7"), (&unknown, &time)] {
        assert_throttled(&gettoken(client, time).await, 1);
    }
    assert_throttled(&gettoken(&app.client, &long_time).await, 1);
    // A granted token forgives one failed attempt.
    app.client.token().await;
    assert_unknown(&get(&app, WRONG).await);
    assert_throttled(&get(&app, WRONG).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_token_is_no_failed_attempt() {
    let app = spawn_app_with(three_attempts).await;
    let token = app.client.token().await;
    app.clock.advance(Duration::from_secs(7_200 + 61));
    for _ in 0..9 {
        assert_eq!(get(&app, &token).await.body["errcode"], 100_002);
        assert_eq!(get(&app, "").await.body["errcode"], 100_000);
    }
    assert_unknown(&get(&app, WRONG).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_app_is_accepted_from_a_throttled_address() {
    let app = spawn_app_with(three_attempts).await;
    for _ in 0..3 {
        assert_unknown(&get(&app, WRONG).await);
    }
    let (client, _) = app.another_app(7, &[]).await;
    // The server learns of the new app without a request for it.
    let token = async || {
        let response = client.post("/cgi/gettoken", client.envelope(&now(&app)).to_string()).await;
        response.json::<Value>().await.unwrap()["errcode"].clone()
    };
    crate::harness::wait_until_equal(token, &json!(0)).await;
}

fn now(app: &TestApp) -> String {
    app.clock.now().timestamp().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_failed_attempts_does_not_slow_others() {
    let app = spawn_app_with(three_attempts).await;
    let guess = |_| get(&app, WRONG);
    let replies = futures_util::future::join_all((0..200).map(guess)).await;
    let (unknown, throttled): (Vec<_>, Vec<_>) =
        replies.iter().partition(|reply| reply.status == 200);
    assert_eq!(unknown.len(), 3, "concurrent requests get no more attempts than the limit");
    unknown.into_iter().for_each(assert_unknown);
    throttled.into_iter().for_each(|reply| assert_throttled(reply, 1));
    // A throttled request does not read the database, so it is answered while the keys are locked.
    let locked = lock_credentials(&app).await;
    for _ in 0..20 {
        assert_throttled(&get(&app, WRONG).await, 1);
    }
    drop(locked);
    assert_eq!(app.create(&new_session()).await["errcode"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_sealed_text_from_a_throttled_address_is_not_opened() {
    let app = spawn_app_with(three_attempts).await;
    assert_eq!(gettoken(&app.client, &now(&app)).await.status, 200);
    for _ in 0..4 {
        get(&app, WRONG).await;
    }
    // The time may have blanks around it.
    let padded = format!("{}{}", now(&app), " ".repeat(1_000));
    assert!(app.client.envelope(&padded)["encrypt"].as_str().unwrap().len() > 1_024);
    assert_throttled(&gettoken(&app.client, &padded).await, 1);
    let granted = gettoken(&app.client, &now(&app)).await;
    assert_eq!((granted.status, &granted.body["errcode"]), (200, &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_can_be_disabled() {
    // The default of the tests.
    let app = spawn_app().await;
    for _ in 0..20 {
        assert_unknown(&get(&app, WRONG).await);
    }
}
