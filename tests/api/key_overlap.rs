//! Two AES keys of an app during a rotation: both are accepted, and the old one ends by itself.

use std::time::Duration;

use muster::domain::{Actor, Permission};
use muster::service::admin::AdminContext;
use muster::service::admin::apps;
use muster::wire::AesKey;
use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::process::Home;
use crate::harness::server::database;
use crate::harness::store::{self, StoredApp};
use crate::harness::{TestApp, keyring, new_app, spawn_app, spawn_app_with};

const OVERLAP: Duration = Duration::from_secs(7 * 86_400);

fn admin(app: &TestApp) -> AdminContext {
    let actor =
        Actor { user: "ann".to_owned(), sudo_user: None, host: "console".to_owned(), pid: 1 };
    AdminContext::new(app.pool.clone(), keyring(), actor, app.clock.clone())
}

/// Replaces the key of an app. Returns a client with the new key.
async fn rotate(app: &TestApp, stored: &StoredApp, overlap: Option<Duration>) -> Client {
    let (admin, key) = (admin(app), AesKey::generate());
    let (buin, app_id) = (stored.app.buin, &stored.app.app_id);
    let rotated = apps::rotate_key(&admin, buin, app_id, key.clone(), overlap).await.unwrap();
    rotated.commit(&admin).await.unwrap();
    Client::new(app.address, &StoredApp::new(stored.app.clone(), key), app.clock.clone())
}

fn session() -> Value {
    json!({ "title": "t", "creator": "a", "member": ["b", "c"] })
}

#[tokio::test(flavor = "multi_thread")]
async fn both_keys_are_accepted_and_seal_their_responses() {
    let app = spawn_app().await;
    let stored = new_app(5, &[Permission::SessionsRead, Permission::SessionsWrite]);
    let (old, api_key) = app.add(&stored).await;
    let before = old.token().await;
    let new = rotate(&app, &stored, Some(OVERLAP)).await;

    // A client opens the responses with its own key only.
    let (old_token, new_token) = (old.token().await, new.token().await);
    let created = old.post_sealed(&old_token, "/cgi/session/create", &session()).await;
    assert_eq!(created["errcode"], 0, "{created}");
    let id = created["sessionId"].as_str().unwrap();
    assert_eq!(new.get_session(&new_token, id).await["title"], "t");
    for token in [&before, &old_token] {
        assert_eq!(old.get_session(token, id).await["title"], "t");
    }
    // The envelope decides, not the token: an app may change over request by request.
    for (client, token) in [(&old, &new_token), (&new, &old_token), (&old, &api_key)] {
        let answer = client.post_sealed(token, "/cgi/session/create", &session()).await;
        assert_eq!(answer["errcode"], 0, "{answer}");
    }
    // Errors are the same for both keys.
    for client in [&old, &new] {
        let token = client.token().await;
        let answer = client.post_sealed(&token, "/cgi/session/create", &json!([1])).await;
        assert_eq!(answer["errcode"], 100_006, "{answer}");
        let wrong_key = Client { key: [7; 32], ..client.clone() };
        let refused = wrong_key.post_sealed(&token, "/cgi/session/create", &session()).await;
        assert_eq!(refused, answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn previous_key_ends_by_itself() {
    let app = spawn_app().await;
    let stored = new_app(5, &[Permission::SessionsRead, Permission::SessionsWrite]);
    let (old, _) = app.add(&stored).await;
    let new = rotate(&app, &stored, Some(OVERLAP)).await;
    app.clock.advance(OVERLAP - Duration::from_secs(60));
    let answer = old.gettoken().await;
    assert_eq!(answer["expireIn"], 60, "its token ends with the key: {answer}");
    let (old_token, new_token) = (old.token().await, new.token().await);
    assert_eq!(new.gettoken().await["expireIn"], 7_200);
    let created = old.post_sealed(&old_token, "/cgi/session/create", &session()).await;
    let id = created["sessionId"].as_str().unwrap();

    app.clock.advance(Duration::from_secs(59));
    assert_eq!(old.get_session(&old_token, id).await["errcode"], 0);
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(old.gettoken().await["errcode"], 100_006);
    assert_eq!(old.get_session(&old_token, id).await["errcode"], 100_002);
    let sealed = old.post_sealed(&new_token, "/cgi/session/create", &session()).await;
    assert_eq!(sealed["errcode"], 100_006);
    assert_eq!(new.get_session(&new_token, id).await["errcode"], 0);

    assert_eq!(store::count_previous_keys(&app.pool).await, 1);
    store::forget_previous_keys(&app.pool, app.clock.now()).await;
    assert_eq!(store::count_previous_keys(&app.pool).await, 0, "nothing of it is stored");
    assert_eq!(new.get_session(&new_token, id).await["errcode"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn next_rotation_ends_the_key_before_the_previous_one() {
    let app = spawn_app().await;
    let stored = new_app(5, &[Permission::SessionsRead, Permission::SessionsWrite]);
    let (first, _) = app.add(&stored).await;
    let second = rotate(&app, &stored, Some(OVERLAP)).await;
    let third = rotate(&app, &stored, Some(OVERLAP)).await;
    assert_eq!(first.gettoken().await["errcode"], 100_006);
    for client in [&second, &third] {
        assert_eq!(client.gettoken().await["errcode"], 0);
    }
    // Without an overlap, all older keys end at once.
    let fourth = rotate(&app, &stored, None).await;
    for client in [&first, &second, &third] {
        assert_eq!(client.gettoken().await["errcode"], 100_006);
    }
    assert_eq!(fourth.gettoken().await["errcode"], 0);
    assert_eq!(store::count_previous_keys(&app.pool).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_request_of_the_previous_key_is_not_repeatable() {
    let app = spawn_app_with(|settings| settings.limits.max_failed_attempts = 0).await;
    let stored = new_app(5, &[Permission::SessionsRead]);
    let (old, _) = app.add(&stored).await;
    rotate(&app, &stored, Some(OVERLAP)).await;
    let request = old.envelope(&app.clock.now().timestamp().to_string()).to_string();
    let errcode = async || {
        let response = old.post("/cgi/gettoken", request.clone()).await;
        response.json::<Value>().await.unwrap()["errcode"].clone()
    };
    assert_eq!(errcode().await, 0);
    assert_eq!(errcode().await, 100_006);
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_of_the_master_key_keeps_both_keys() {
    const OTHER: &str = "07070707070707070707070707070707070707070707070707070707070707ff";
    let database = database().await;
    let mut home = Home::for_database(&database);
    let mine = ["--buin", "7", "--app-id", "mine"];
    let old = home.json(&[&["app", "create"][..], &mine].concat());
    let rotate = [&["app", "rotate-key", "--overlap", "7d"][..], &mine].concat();
    let new = home.json(&rotate);
    assert!(new["previousKeyUntil"].is_string(), "{new}");
    home.set("MUSTER__SECRETS__PREVIOUS_MASTER_KEY", crate::harness::MASTER_KEY);
    home.set("MUSTER__SECRETS__MASTER_KEY", OTHER);
    home.json(&["secrets", "rotate"]);
    home.set("MUSTER__SECRETS__PREVIOUS_MASTER_KEY", "");
    let server = home.serve();
    for credentials in [&old, &new] {
        assert_eq!(server.client(credentials).gettoken().await["errcode"], 0);
    }
    server.stop();
    let shown = home.run(&[&["app", "show"][..], &mine].concat()).ok().stdout;
    assert!(shown.contains("previous key    accepted until "), "{shown}");
    let audit = home.json(&["audit", "list", "--action", "app.rotate_key"]);
    assert_eq!(audit[0]["details"]["previousAesKeyUntil"]["to"], new["previousKeyUntil"]);
    for text in ["soon", "59s", "366d", "-1d"] {
        let option = format!("--overlap={text}");
        home.run(&[&["app", "rotate-key", &option][..], &mine].concat()).fails(2, &["--overlap"]);
    }
    home.json(&[&["app", "rotate-key"][..], &mine].concat());
    let shown = home.json(&[&["app", "show"][..], &mine].concat());
    assert_eq!(shown.get("previousKeyUntil"), None);
}
