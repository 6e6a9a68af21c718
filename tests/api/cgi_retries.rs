//! `Idempotency-Key` under `/cgi`: a repeated request is done once, plain and sealed.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{TestApp, refusal, spawn_app, store};

fn creation(title: &str) -> Value {
    json!({ "title": title, "creator": "a", "member": ["b", "c"] })
}

/// The form of a request and the credential of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Sealed,
}

const FORMS: [Form; 2] = [Form::Plain, Form::Sealed];

/// Sends a message with a key. Returns the opened response, and whether it is a repeated one.
async fn send(app: &TestApp, form: Form, call: &str, key: &str, message: &Value) -> (Value, bool) {
    let (token, body) = match form {
        Form::Plain => (app.api_key.clone(), message.clone()),
        // Each attempt has a new token and is sealed anew.
        Form::Sealed => (app.client.token().await, app.client.envelope(&message.to_string())),
    };
    let path = format!("/cgi/session/{call}?accessToken={token}");
    let request = app.client.request(Method::POST, &path).header("Idempotency-Key", key);
    let response = request.body(body.to_string()).send().await.unwrap();
    let replayed = response.headers().get("idempotency-replayed").map(|yes| yes == "true");
    assert_ne!(replayed, Some(false));
    let answer = match form {
        Form::Plain => response.json().await.unwrap(),
        Form::Sealed => app.client.open_response(response).await,
    };
    (answer, replayed.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_done_once() {
    let app = spawn_app().await;
    let mut count = 0;
    for form in FORMS {
        let key = format!("{form:?}");
        let (created, replayed) = send(&app, form, "create", &key, &creation("t")).await;
        assert_eq!((&created["errcode"], replayed), (&json!(0), false), "{created}");
        count += 1;
        let id = &created["sessionId"];
        // The response stays that of the first request after any change of the session.
        let update = json!({ "sessionId": id, "opUser": "b", "addMember": ["d"] });
        let key = format!("{form:?}-update");
        let (updated, replayed) = send(&app, form, "update", &key, &update).await;
        assert_eq!((&updated["version"], replayed), (&json!(2), false), "{updated}");
        app.change(&created, "a", json!({ "delMember": ["d"], "title": "later" })).await;
        for again in FORMS {
            let repeated = send(&app, again, "update", &key, &update).await;
            assert_eq!(repeated, (updated.clone(), true), "{form:?}, then {again:?}");
            let key = format!("{form:?}");
            let repeated = send(&app, again, "create", &key, &creation("t")).await;
            assert_eq!(repeated, (created.clone(), true), "{form:?}, then {again:?}");
        }
        // A change without an effect is remembered as well.
        let nothing = json!({ "sessionId": id, "opUser": "b", "title": "later" });
        let key = format!("{form:?}-nothing");
        let (first, replayed) = send(&app, form, "update", &key, &nothing).await;
        assert_eq!((&first["version"], replayed), (&json!(3), false));
        assert_eq!(send(&app, form, "update", &key, &nothing).await, (first, true));
    }
    assert_eq!(store::count_sessions(&app.pool).await, count);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_concurrent_retries_make_one_session() {
    let app = spawn_app().await;
    let message = creation("t");
    let tries = (0..20).map(|at| send(&app, FORMS[at % 2], "create", "storm", &message));
    let answers = join_all(tries).await;
    for (answer, _) in &answers {
        assert_eq!(answer, &answers[0].0);
    }
    assert_eq!(answers.iter().filter(|(_, replayed)| !replayed).count(), 1);
    assert_eq!(store::count_sessions(&app.pool).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_request_needs_another_key() {
    let app = spawn_app().await;
    let (created, _) = send(&app, Form::Plain, "create", "k", &creation("t")).await;
    let used = refusal(100_003, "Idempotency-Key: used for another request");
    let update = json!({ "sessionId": created["sessionId"], "opUser": "a", "title": "t" });
    for form in FORMS {
        assert_eq!(send(&app, form, "create", "k", &creation("u")).await, (used.clone(), false));
        assert_eq!(send(&app, form, "update", "k", &update).await, (used.clone(), false));
    }
    // A call of the other API is another request.
    let request = app.client.request(Method::POST, "/v1/sessions").bearer_auth(&app.api_key);
    let request = request.header("Idempotency-Key", "k");
    let body = json!({ "title": "t", "operator": "a", "member": ["b", "c"] });
    assert_eq!(request.json(&body).send().await.unwrap().status(), 422);
    // A request that was refused is not remembered.
    let refused = send(&app, Form::Sealed, "create", "later", &json!({})).await;
    assert_eq!(refused.0["errcode"], 100_003);
    let (created, replayed) = send(&app, Form::Sealed, "create", "later", &creation("t")).await;
    assert_eq!((&created["errcode"], replayed), (&json!(0), false));
    assert_eq!(store::count_sessions(&app.pool).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_keys_are_refused() {
    let app = spawn_app().await;
    let long = "x".repeat(256);
    for (key, why) in [
        ("", "at least 1 character, got 0"),
        ("a b", "character ' ' is not allowed, only visible ASCII"),
        (&long, "at most 255 characters, got 256"),
    ] {
        for form in FORMS {
            let got = send(&app, form, "create", key, &creation("t")).await;
            assert_eq!(got.0, refusal(100_003, &format!("Idempotency-Key: {why}")));
        }
    }
    let path = format!("/cgi/session/create?accessToken={}", app.api_key);
    let request = app.client.request(Method::POST, &path);
    let request = request.header("Idempotency-Key", "a").header("Idempotency-Key", "a");
    let got = request.body(creation("t").to_string()).send().await.unwrap();
    let twice = refusal(100_003, "Idempotency-Key: appears more than once");
    assert_eq!(got.json::<Value>().await.unwrap(), twice);
    assert_eq!(store::count_sessions(&app.pool).await, 0);
}
