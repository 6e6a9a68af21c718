//! Access tokens: issue, expiry and revocation.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::domain::Permission;
use muster::wire::AesKey;
use serde_json::{Value, json};

use crate::harness::client::{Client, read_response};
use crate::harness::{BUIN, change, new_app, refusal, spawn_app, spawn_app_with, wait_until_equal};

/// The response to a wrong time, which is the same as for an envelope that does not open.
fn cannot_open() -> Value {
    cannot_open_within(300)
}

fn cannot_open_within(skew: u32) -> Value {
    let errmsg = format!(
        "encrypt: cannot be opened with this app's key, or its time is more than {skew} s off"
    );
    refusal(100_006, &errmsg)
}

fn unknown() -> Value {
    refusal(100_001, "accessToken: access token does not exist")
}

fn unknown_app() -> Value {
    refusal(100_005, "appId: unknown or disabled app")
}

/// A call with the token. An accepted token leads to the error of a missing session id.
async fn admitted(client: &Client, token: &str) -> Value {
    read_response(client.get(&format!("/cgi/session/get?accessToken={token}")).await).await
}

fn past_the_token() -> Value {
    refusal(400_001, "sessionId: is missing")
}

#[tokio::test(flavor = "multi_thread")]
async fn new_token_keeps_older_tokens_valid() {
    let app = spawn_app().await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let granted = app.client.gettoken().await;
        let token = granted["accessToken"].as_str().unwrap().to_owned();
        let complete = json!({
            "errcode": 0, "errmsg": "ok", "accessToken": token, "expireIn": 7200,
        });
        assert_eq!(granted, complete);
        let safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        assert!(!token.is_empty() && token.chars().all(safe), "{token}");
        assert!(!tokens.contains(&token));
        tokens.push(token);
    }
    for token in &tokens {
        assert_eq!(admitted(&app.client, token).await, past_the_token());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_skew_of_five_minutes_is_accepted() {
    let app = spawn_app().await;
    let now = app.clock.now().timestamp();
    for wrong_by in [-300, -299, 0, 299, 300] {
        let granted = app.client.gettoken_at(&(now + wrong_by).to_string()).await;
        assert_eq!(granted["errcode"], 0, "{wrong_by}: {granted}");
    }
    for wrong_by in [-7200, -301, 301, 7200] {
        let got = app.client.gettoken_at(&(now + wrong_by).to_string()).await;
        assert_eq!(got, cannot_open(), "{wrong_by}");
    }
    // The time is that of the injected clock, not of the machine.
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(app.client.gettoken_at(&(now - 300).to_string()).await, cannot_open());
    assert_eq!(app.client.gettoken_at(&(now + 301).to_string()).await["errcode"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_and_wrong_times_get_the_same_error() {
    let app = spawn_app().await;
    for time in [
        "",
        " ",
        "now",
        "0",
        "-1718000000",
        "1718000000.0",
        "1718000000000",
        "1.718e9",
        "0x6666a680",
        "1718000000x",
        "\"1718000000\"",
        "{}",
        "99999999999999999999999",
        "９９",
        "17180\u{0}00000",
    ] {
        assert_eq!(app.client.gettoken_at(time).await, cannot_open(), "{time:?}");
    }
}

/// A sealed text with another first block, which changes the message behind it as far as the block
/// after that: the time, if its length stays.
fn redated(sealed: &str, from: &str, to: &str) -> String {
    let mut bytes = STANDARD.decode(sealed).unwrap();
    for (at, (from, to)) in from.bytes().zip(to.bytes()).enumerate() {
        bytes[4 + at] ^= from ^ to;
    }
    STANDARD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn token_requests_cannot_be_repeated() {
    let app = spawn_app().await;
    let then = app.clock.now().timestamp().to_string();
    let post = async |encrypt: &str| {
        let client = &app.client;
        let body = json!({ "buin": client.buin, "appId": client.app_id, "encrypt": encrypt });
        client.open_response(client.post("/cgi/gettoken", body.to_string()).await).await
    };
    let sealed = app.client.seal(&then);
    assert_eq!(post(&sealed).await["errcode"], 0);
    assert_eq!(post(&sealed).await, cannot_open());
    // Neither another encoding nor another first block makes it a new one.
    assert_eq!(post(&format!("{sealed}\n")).await, cannot_open());
    let mut noise = STANDARD.decode(&sealed).unwrap();
    noise[0] ^= 1;
    assert_eq!(post(&STANDARD.encode(noise)).await, cannot_open());
    // A day later the attacker writes the new time into the recorded request.
    app.clock.advance(Duration::from_secs(86_400));
    let now = app.clock.now().timestamp().to_string();
    let again = redated(&sealed, &then, &now);
    assert_eq!(app.client.open(&again), now, "the forgery has the right form");
    assert_eq!(post(&again).await, cannot_open());
    // Honest requests of the same second are new. One that was refused is not opened again.
    for _ in 0..3 {
        assert_eq!(post(&app.client.seal(&now)).await["errcode"], 0);
    }
    let late = app.client.seal(&then);
    assert_eq!(post(&late).await, cannot_open());
    assert_eq!(post(&redated(&late, &then, &now)).await, cannot_open());
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_writes_are_refused_a_second_time_if_configured() {
    for refuse in [true, false] {
        let app = spawn_app_with(|settings| settings.policy.refuse_replayed_writes = refuse).await;
        let token = app.client.token().await;
        let message = json!({ "title": "t", "creator": "a", "member": ["b", "c"] }).to_string();
        let path = format!("/cgi/session/create?accessToken={token}");
        let send = async |envelope: &Value| {
            app.client.open_response(app.client.post(&path, envelope.to_string()).await).await
        };
        let envelope = app.client.envelope(&message);
        let created = send(&envelope).await;
        assert_eq!(created["errcode"], 0, "{created}");
        let expected = if refuse { 100_006 } else { 0 };
        assert_eq!(send(&envelope).await["errcode"], expected);
        let update = json!({ "sessionId": created["sessionId"], "opUser": "a", "title": "u" });
        let update = app.client.envelope(&update.to_string());
        let path = format!("/cgi/session/update?accessToken={token}");
        for expected in [0, expected] {
            let got = app.client.post(&path, update.to_string()).await;
            assert_eq!(app.client.open_response(got).await["errcode"], expected);
        }
        // A message that is sealed anew is a new request. Plain messages are not remembered.
        assert_eq!(send(&app.client.envelope(&message)).await["errcode"], 0);
        for _ in 0..2 {
            let plain = app.post_plain("/cgi/session/create", message.clone()).await;
            assert_eq!(plain["errcode"], 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_and_skew_are_settings() {
    let app = spawn_app_with(|settings| {
        settings.token.expire_in = Duration::from_secs(601);
        settings.token.max_clock_skew = Duration::from_secs(1);
    })
    .await;
    let now = app.clock.now().timestamp();
    assert_eq!(app.client.gettoken_at(&(now + 2).to_string()).await, cannot_open_within(1));
    let granted = app.client.gettoken_at(&(now + 1).to_string()).await;
    assert_eq!(granted["expireIn"], 601, "{granted}");
    let token = granted["accessToken"].as_str().unwrap();
    // The expiry counts from the server's time, not the client's.
    app.clock.advance(Duration::from_secs(601 + 60));
    assert_eq!(admitted(&app.client, token).await, past_the_token());
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(admitted(&app.client, token).await["errcode"], 100_002);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_valid_until_it_expires() {
    let app = spawn_app().await;
    let first = app.client.token().await;
    // Clients use a token up to and including its last second; a minute more is granted.
    for advance in [7200, 59, 1] {
        app.clock.advance(Duration::from_secs(advance));
        assert_eq!(admitted(&app.client, &first).await, past_the_token(), "{advance}");
    }
    let (elsewhere, _) = app.another_instance().await;
    assert_eq!(admitted(&app.client.at(elsewhere), &first).await, past_the_token());
    let second = app.client.token().await;
    app.clock.advance(Duration::from_secs(1));
    let expired = refusal(100_002, "accessToken: access token expired");
    assert_eq!(admitted(&app.client, &first).await, expired);
    assert_eq!(admitted(&app.client, &second).await, past_the_token());
    app.clock.advance(Duration::from_secs(1_000_000));
    assert_eq!(admitted(&app.client, &first).await, expired);
    assert_eq!(admitted(&app.client, &second).await, expired);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_token_does_not_exist() {
    let app = spawn_app().await;
    let token = app.client.token().await;
    for at in [0, 1, token.len() / 2, token.len() - 2] {
        let mut forged = token.clone();
        let other = if &token[at..=at] == "A" { "B" } else { "A" };
        forged.replace_range(at..=at, other);
        assert_eq!(admitted(&app.client, &forged).await, unknown(), "{at}: {forged}");
    }
    let long = "A".repeat(5_000);
    for forged in [
        "x",
        "null",
        &token[1..],
        &token[..token.len() - 1],
        &format!("{token}A"),
        &format!("{token}%3D"),
        &format!("+{token}"),
        "%00",
        "%ff%fe",
        "%zz",
        "%E9%A1%B9",
        "AQ",
        "msk_",
        "msk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        long.as_str(),
    ] {
        assert_eq!(admitted(&app.client, forged).await, unknown(), "{forged}");
    }
    // The response to a forged token does not depend on the time in it.
    app.clock.advance(Duration::from_secs(1_000_000));
    assert_eq!(admitted(&app.client, &token[..token.len() - 1]).await, unknown());
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_token_is_refused() {
    let app = spawn_app().await;
    let missing = refusal(100_000, "accessToken: access token is missing");
    for query in ["", "?", "?accessToken", "?accessToken=", "?sessionId=x", "?AccessToken=x"] {
        let get = app.client.get(&format!("/cgi/session/get{query}")).await;
        assert_eq!(read_response(get).await, missing, "{query}");
        for path in ["create", "update"] {
            let post = app.client.post(&format!("/cgi/session/{path}{query}"), "nonsense").await;
            assert_eq!(read_response(post).await, missing, "{path}{query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disabled_app_is_refused_until_it_is_enabled() {
    let app = spawn_app().await;
    let stored = new_app(BUIN, &[Permission::SessionsRead]);
    let (client, api_key) = app.add(&stored).await;
    let token = client.token().await;
    assert_eq!(admitted(&client, &api_key).await, past_the_token());

    change(&app, &stored, |stored| stored.app.disabled = true).await;
    wait_until_equal(|| client.gettoken(), &unknown_app()).await;
    assert_eq!(admitted(&client, &token).await, unknown());
    assert_eq!(admitted(&client, &api_key).await, unknown());
    let (elsewhere, _) = app.another_instance().await;
    assert_eq!(client.at(elsewhere).gettoken().await, unknown_app());

    change(&app, &stored, |stored| stored.app.disabled = false).await;
    wait_until_equal(|| admitted(&client, &token), &past_the_token()).await;
    assert_eq!(admitted(&client, &api_key).await, past_the_token());
    assert_eq!(client.gettoken().await["errcode"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_key_invalidates_all_tokens() {
    let app = spawn_app().await;
    let stored = new_app(BUIN, &[Permission::SessionsRead]);
    let (client, api_key) = app.add(&stored).await;
    let token = client.token().await;

    let key = AesKey::generate();
    let rotated = Client { key: *key.bytes(), ..client.clone() };
    change(&app, &stored, |stored| stored.aes_key = key).await;
    wait_until_equal(|| admitted(&client, &token), &unknown()).await;
    assert_eq!(client.gettoken().await, cannot_open());
    let token = rotated.token().await;
    assert_eq!(admitted(&client, &token).await, past_the_token());
    assert_eq!(admitted(&client, &api_key).await, past_the_token(), "API keys stay valid");
}

#[tokio::test(flavor = "multi_thread")]
async fn enterprises_do_not_share_apps() {
    let app = spawn_app().await;
    let wrong = refusal(100_009, "buin: not the enterprise of this app");
    let other_enterprise = Client { buin: BUIN + 1, ..app.client.clone() };
    assert_eq!(other_enterprise.gettoken().await, wrong);
    let unknown = Client { app_id: "yd0".to_owned(), ..app.client.clone() };
    assert_eq!(unknown.gettoken().await, unknown_app());

    // The same id in another enterprise is another app, with another key.
    let mut twin = new_app(BUIN + 1, &[Permission::SessionsRead]);
    twin.app.app_id = app.client.app_id.parse().unwrap();
    let (twin, _) = app.add(&twin).await;
    assert_eq!(other_enterprise.gettoken().await, cannot_open());
    let token = twin.token().await;
    assert_eq!(admitted(&twin, &token).await, past_the_token());
    assert_eq!(app.client.gettoken().await["errcode"], 0);
    // Its token is not valid for the app of the first enterprise.
    let envelope = app.client.envelope("{}").to_string();
    let path = format!("/cgi/session/create?accessToken={token}");
    assert_eq!(read_response(app.client.post(&path, envelope).await).await["errcode"], 3);
    let (writer, _) = app.another_app(BUIN + 1, &[Permission::SessionsWrite]).await;
    let path = format!("/cgi/session/create?accessToken={}", writer.token().await);
    let envelope = app.client.envelope("{}").to_string();
    assert_eq!(read_response(app.client.post(&path, envelope).await).await, wrong);
}
