//! Credentials that are not valid are tried ever more slowly, and only they.

use std::time::Duration;

use muster::config::Settings;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Told, new_session, rest};
use crate::harness::client::Client;
use crate::harness::store::lock_credentials;
use crate::harness::{TestApp, refusal, spawn_app, spawn_app_with};

const WRONG: &str = "msk_0000000000000000000000000000000000000000000";

fn three(settings: &mut Settings) {
    settings.limits.max_failed_attempts = 3;
}

/// A session that nobody has, asked for with a token.
async fn get(app: &TestApp, token: &str) -> Told {
    let id = "00000000-0000-7000-8000-000000000000";
    let began = std::time::Instant::now();
    let path = format!("/cgi/session/get?accessToken={token}&sessionId={id}");
    Told::by(began, app.client.get(&path).await).await
}

async fn gettoken(client: &Client, time: &str) -> Told {
    let began = std::time::Instant::now();
    let response = client.post("/cgi/gettoken", client.envelope(time).to_string()).await;
    Told::by(began, response).await
}

fn is_unknown(told: &Told) {
    let unknown = refusal(100_001, "accessToken: access token does not exist");
    assert_eq!((told.status, &told.body), (200, &unknown));
}

fn is_held_off(told: &Told, wait: u64) {
    assert_eq!((told.status, told.retry_after), (429, Some(wait)), "{told:?}");
    let errmsg = "accessToken: too many invalid attempts came from this address";
    assert_eq!(told.body, refusal(-1, errmsg));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_attempts_throttle_only_their_address() {
    let app = spawn_app_with(three).await;
    let token = app.client.token().await;
    for _ in 0..3 {
        is_unknown(&get(&app, WRONG).await);
    }
    for wait in [1, 2, 4, 8] {
        is_held_off(&get(&app, WRONG).await, wait);
        is_held_off(&get(&app, "forged").await, wait);
        let told = app.client.request(Method::GET, "/v1/limits").bearer_auth(WRONG);
        let told = Told::by(std::time::Instant::now(), told.send().await.unwrap()).await;
        assert_eq!((told.status, told.retry_after), (429, Some(wait)), "{told:?}");
        assert_eq!(told.body["code"], "too_many_failed_attempts");
        // Who has a credential is served, whoever else is at the same address.
        for good in [&token, &app.api_key] {
            let told = get(&app, good).await;
            assert_eq!((told.status, &told.body["errcode"]), (200, &json!(400_003)), "{told:?}");
        }
        assert_eq!(rest(&app, Method::GET, "/v1/limits", None).await.status, 200);
        app.clock.advance(Duration::from_secs(wait));
        is_unknown(&get(&app, WRONG).await);
    }
    app.clock.advance(Duration::from_secs(16 + 60));
    for _ in 0..3 {
        is_unknown(&get(&app, WRONG).await);
    }
    is_held_off(&get(&app, WRONG).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_token_requests_count_and_hide_the_reason() {
    let app = spawn_app_with(three).await;
    let time = app.client.clock.now().timestamp().to_string();
    let mut other = app.client.clone();
    other.key[0] ^= 1;
    let nobody = Client { app_id: "nobody".to_owned(), ..app.client.clone() };
    for (client, time, errcode) in
        [(&other, time.as_str(), 100_006), (&app.client, "7", 100_006), (&nobody, &time, 100_005)]
    {
        let told = gettoken(client, time).await;
        assert_eq!((told.status, &told.body["errcode"]), (200, &json!(errcode)), "{told:?}");
    }
    let long = "7".repeat(2_000);
    for (client, time) in [(&other, time.as_str()), (&app.client, "7"), (&nobody, &time)] {
        is_held_off(&gettoken(client, time).await, 1);
    }
    is_held_off(&gettoken(&app.client, &long).await, 1);
    // Who has the key gets a token, and makes up for one of the three.
    app.client.token().await;
    is_unknown(&get(&app, WRONG).await);
    is_held_off(&get(&app, WRONG).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_token_is_no_failed_attempt() {
    let app = spawn_app_with(three).await;
    let token = app.client.token().await;
    app.clock.advance(Duration::from_secs(7_200));
    for _ in 0..9 {
        assert_eq!(get(&app, &token).await.body["errcode"], 100_002);
        assert_eq!(get(&app, "").await.body["errcode"], 100_000);
    }
    is_unknown(&get(&app, WRONG).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_app_is_accepted_from_a_throttled_address() {
    let app = spawn_app_with(three).await;
    for _ in 0..3 {
        is_unknown(&get(&app, WRONG).await);
    }
    let (client, _) = app.another_app(7, &[]).await;
    // As soon as the server has heard of it, unasked.
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
    let app = spawn_app_with(|settings| settings.limits.max_failed_attempts = 10).await;
    let guess = |_| get(&app, WRONG);
    let told = futures_util::future::join_all((0..200).map(guess)).await;
    let (unknown, held_off): (Vec<_>, Vec<_>) = told.iter().partition(|told| told.status == 200);
    assert_eq!(unknown.len(), 10, "so many are for nothing, and no more though all came at once");
    unknown.into_iter().for_each(is_unknown);
    held_off.into_iter().for_each(|told| is_held_off(told, 1));
    // None of them waits for the database: each is answered while nobody can read keys.
    let locked = lock_credentials(&app).await;
    for _ in 0..20 {
        is_held_off(&get(&app, WRONG).await, 1);
    }
    drop(locked);
    assert_eq!(app.create(&new_session()).await["errcode"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_can_be_disabled() {
    // As the tests have it.
    let app = spawn_app().await;
    for _ in 0..20 {
        is_unknown(&get(&app, WRONG).await);
    }
}
