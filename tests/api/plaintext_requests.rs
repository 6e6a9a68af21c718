//! Plain requests: an API key as access token, plain messages and plain responses.

use muster::domain::{AllowedForms, MessageForm, Permission};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::harness::client::read_response;
use crate::harness::{BUIN, TestApp, change, new_app, refusal, spawn_app, store, wait_until_equal};

const CREATE: &str = "/cgi/session/create";
const READ: &str = "/cgi/session/get?accessToken=";

fn message() -> Value {
    json!({ "title": "t", "creator": "a", "member": ["b", "c"] })
}

async fn post(app: &TestApp, token: &str, path: &str, body: &Value) -> Value {
    read_response(app.client.post(&format!("{path}?accessToken={token}"), body.to_string()).await)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn api_key_requests_and_responses_are_plaintext() {
    let app = spawn_app().await;
    let created = post(&app, &app.api_key, CREATE, &message()).await;
    assert_eq!((&created["errcode"], &created["errmsg"]), (&json!(0), &json!("ok")));
    assert_eq!(created["encrypt"], Value::Null);
    assert_eq!(created["member"], json!(["a", "b", "c"]));
    let id = &created["sessionId"];
    let update = json!({ "sessionId": id, "opUser": "a", "title": "u" });
    let updated = post(&app, &app.api_key, "/cgi/session/update", &update).await;
    assert_eq!(updated["version"], 2);
    assert_eq!(app.current(&created).await, updated);
    // buin and appId are ignored: the key determines both.
    let mut invalid = message();
    invalid["buin"] = json!("x");
    invalid["appId"] = json!([]);
    invalid["encrypt"] = Value::Null;
    assert_eq!(post(&app, &app.api_key, CREATE, &invalid).await["errcode"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_may_stand_in_the_header() {
    let app = spawn_app().await;
    let send = async |method: Method, path: &str, headers: &[&str], body: String| {
        let request = app.client.request(method, path).body(body);
        let add = |request: reqwest::RequestBuilder, header: &&str| {
            request.header("Authorization", *header)
        };
        headers.iter().fold(request, add).send().await.unwrap()
    };
    let key = format!("Bearer {}", app.api_key);
    let token = format!("bearer   {}", app.client.token().await);
    let response = send(Method::POST, CREATE, &[&key], message().to_string()).await;
    let created = read_response(response).await;
    assert_eq!(created["title"], "t", "{created}");
    let id = created["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    let get = format!("/cgi/session/get?sessionId={id}");
    let read = send(Method::GET, &get, &[&key], String::new()).await;
    assert_eq!(read_response(read).await, created);
    // An access token is a credential too, and its responses are sealed.
    let read = send(Method::GET, &get, &[&token], String::new()).await;
    assert_eq!(app.client.open_response(read).await, created);
    let body = app.client.envelope(&message().to_string()).to_string();
    let sealed = send(Method::POST, CREATE, &[&token], body).await;
    assert_eq!(app.client.open_response(sealed).await["errcode"], 0);

    // The query decides if it has a token: a gateway may add a header of its own.
    let with_token = |token: &str| format!("{get}&accessToken={token}");
    for header in ["Bearer x", "Bearer", "Basic eDp5", &key] {
        let read = send(Method::GET, &with_token(&app.api_key), &[header], String::new()).await;
        assert_eq!(read_response(read).await, created, "{header}");
        let read = send(Method::GET, &with_token("x"), &[header], String::new()).await;
        assert_eq!(read_response(read).await["errcode"], 100_001, "{header}");
    }
    let read = send(Method::GET, &with_token(""), &[&key], String::new()).await;
    assert_eq!(read_response(read).await, created);
    for (headers, errcode) in [
        (&[][..], 100_000),
        (&["Basic eDp5"], 100_000),
        (&["Bearer "], 100_000),
        (&["Bearer x"], 100_001),
        (&[&key, &key], 100_003),
    ] {
        let read = send(Method::GET, &get, headers, String::new()).await;
        assert_eq!(read_response(read).await["errcode"], errcode, "{headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_request_gets_a_sealed_response() {
    let app = spawn_app().await;
    let envelope = app.client.envelope(&message().to_string());
    let answered = post(&app, &app.api_key, CREATE, &envelope).await;
    assert!(answered["encrypt"].is_string(), "{answered}");
    assert_eq!(answered["sessionId"], Value::Null, "a sealed session has no plain fields");
    let created = app.client.post_sealed(&app.api_key, CREATE, &message()).await;
    assert_eq!(created["version"], 1);
    // Plain fields beside the envelope are ignored.
    let mut both = envelope.clone();
    both.as_object_mut()
        .unwrap()
        .extend(json!({ "title": "x", "creator": 7 }).as_object().unwrap().clone());
    let both = post(&app, &app.api_key, CREATE, &both).await;
    let opened: Value =
        serde_json::from_str(&app.client.open(both["encrypt"].as_str().unwrap())).unwrap();
    assert_eq!((&opened["title"], &opened["owner"]), (&json!("t"), &json!("a")));

    // Messages that another app of the enterprise sealed, or that are not sealed.
    let (other, _) = app.another_app(BUIN, &[Permission::SessionsWrite]).await;
    let got = post(&app, &app.api_key, CREATE, &other.envelope("{}")).await;
    assert_eq!(got["errcode"], 100_005);
    let mut empty = message();
    empty["encrypt"] = json!("");
    assert_eq!(post(&app, &app.api_key, CREATE, &empty).await["errcode"], 100_008);
    let mut empty = envelope;
    empty["encrypt"] = json!("");
    assert_eq!(post(&app, &app.api_key, CREATE, &empty).await["errcode"], 100_006);
    // A form can hold an envelope too.
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("buin", &app.client.buin.to_string())
        .append_pair("appId", &app.client.app_id)
        .append_pair("encrypt", &app.client.seal(&message().to_string()))
        .finish();
    let path = format!("{CREATE}?accessToken={}", app.api_key);
    let request = app.client.request(Method::POST, &path);
    let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
    let created = app.client.open_response(request.send().await.unwrap()).await;
    assert_eq!(created["title"], "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_uses_only_the_forms_that_it_may() {
    let app = spawn_app().await;
    let permissions = [Permission::SessionsRead, Permission::SessionsWrite];
    let denied = |form: &str| refusal(3, &format!("appId: the app may not use the {form} form"));
    for forms in AllowedForms::ALL {
        let mut stored = new_app(BUIN, &permissions);
        let (client, key) = app.add(&stored).await;
        let token = client.token().await;
        // The setting holds for tokens and keys that exist already.
        stored.app.forms = forms;
        change(&app, &stored, |stored| stored.app.forms = forms).await;
        let created = app.create(&message()).await;
        let id = created["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
        let get = |token: &str| format!("/cgi/session/get?sessionId={id}&accessToken={token}");
        let opened = async |response: reqwest::Response| client.open_response(response).await;

        let sealed = forms.contains(MessageForm::Sealed);
        let plain = forms.contains(MessageForm::Plain);
        let expected = |allowed: bool, form: &str| {
            if allowed { json!(0) } else { denied(form)["errcode"].clone() }
        };
        let check = |got: Value, allowed: bool, form: &str| {
            assert_eq!(got["errcode"], expected(allowed, form), "{forms:?}: {got}");
            assert!(allowed || got == denied(form), "{forms:?}: {got}");
        };
        // The server learns of the change by a notification.
        let first = async || client.gettoken().await["errcode"].clone();
        wait_until_equal(first, &expected(sealed, "sealed")).await;
        let read = async || read_response(client.get(&get(&key)).await).await["errcode"].clone();
        wait_until_equal(read, &expected(plain, "plain")).await;

        check(client.gettoken().await, sealed, "sealed");
        check(opened(client.get(&get(&token)).await).await, sealed, "sealed");
        check(client.post_sealed(&token, CREATE, &message()).await, sealed, "sealed");
        check(client.post_sealed(&key, CREATE, &message()).await, sealed, "sealed");
        check(post(&app, &key, CREATE, &message()).await, plain, "plain");
        check(read_response(client.get(&get(&key)).await).await, plain, "plain");
        let list = app.client.request(Method::GET, "/v1/sessions").bearer_auth(&key);
        let list = list.send().await.unwrap();
        assert_eq!(list.status(), if plain { 200 } else { 403 }, "{forms:?}");
        if !plain {
            let problem: Value = list.json().await.unwrap();
            assert_eq!(problem["code"], "missing_permission", "{problem}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_does_not_accept_plain_requests() {
    let app = spawn_app().await;
    let token = app.client.token().await;
    let missing = refusal(100_011, "encrypt: is missing");
    let mut null = message();
    null["encrypt"] = Value::Null;
    for body in [message(), json!({}), null] {
        for path in [CREATE, "/cgi/session/update"] {
            assert_eq!(post(&app, &token, path, &body).await, missing, "{body}");
        }
    }
    assert_eq!(store::count_sessions(&app.pool).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn get_response_form_follows_the_credential() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    let token = app.client.token().await;
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    let path = |token: &str| format!("/cgi/session/get?sessionId={id}&accessToken={token}");
    assert_eq!(read_response(app.client.get(&path(&app.api_key)).await).await, session);
    let sealed = read_response(app.client.get(&path(&token)).await).await;
    assert_eq!(sealed.as_object().unwrap().len(), 3, "{sealed}");
    assert!(sealed["encrypt"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_is_refused() {
    let app = spawn_app().await;
    let (client, key) = app.another_app(BUIN, &[Permission::SessionsWrite]).await;
    let get = async || read_response(client.get(&format!("{READ}{key}")).await).await;
    assert_eq!(get().await["errcode"], 3, "a known key without the permission to read");

    let second = store::insert_key(&app.pool, BUIN, &client.app_id).await;
    let created = post(&app, &second, CREATE, &message()).await;
    assert_eq!(created["errcode"], 0, "a new key is valid at once: {created}");

    store::revoke_key(&app.pool, &key).await;
    let unknown = refusal(100_001, "accessToken: access token does not exist");
    wait_until_equal(get, &unknown).await;
    assert_eq!(post(&app, &key, CREATE, &message()).await, unknown);
    let created = post(&app, &second, CREATE, &message()).await;
    assert_eq!(created["errcode"], 0, "the other key stays valid: {created}");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_plain_message_is_reported_as_body() {
    let app = spawn_app().await;
    for (body, errcode, errmsg) in [
        ("", 100_004, "body: not JSON: EOF while parsing a value at line 1 column 0"),
        ("[]", 100_004, "body: must be a JSON object, got a list"),
        ("null", 100_004, "body: must be a JSON object, got null"),
        ("a=b", 100_004, "body: not JSON: expected value at line 1 column 1"),
        ("{}", 100_003, "title: is missing"),
    ] {
        assert_eq!(app.post_plain(CREATE, body).await, refusal(errcode, errmsg), "{body}");
    }
}
