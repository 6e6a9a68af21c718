//! Conditions in the headers of `/cgi`: all are refused, in each call and each form, and nothing is done.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::client::read_response;
use crate::harness::{refusal, spawn_app, store};

const CONDITIONS: [(&str, &str); 8] = [
    ("If-Match", "\"1\""),
    ("If-Match", "*"),
    ("If-Match", "\"99\""),
    ("If-None-Match", "*"),
    ("If-None-Match", "\"1\""),
    ("If-Modified-Since", "Mon, 10 Jun 2030 06:13:20 GMT"),
    ("If-Unmodified-Since", "Mon, 10 Jun 2019 06:13:20 GMT"),
    ("If-Range", "\"1\""),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_condition_is_refused_and_nothing_is_done() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    let id = session["sessionId"].as_str().unwrap();
    let token = app.client.token().await;
    let created = json!({ "title": "t", "creator": "a", "member": ["b", "c"] }).to_string();
    let update = json!({ "sessionId": id, "opUser": "a", "title": "after" }).to_string();
    let sealed = |message: &str| app.client.envelope(message).to_string();
    let time = app.client.clock.now().timestamp().to_string();
    let query = form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>();
    for (header, value) in CONDITIONS {
        let message = "is not supported, use the field version of an update";
        let expected = refusal(100_003, &format!("{header}: {message}"));
        let key = &app.api_key;
        for (method, path, body) in [
            (Method::POST, format!("create?accessToken={key}"), created.clone()),
            (Method::POST, format!("create?accessToken={token}"), sealed(&created)),
            (Method::POST, format!("update?accessToken={key}"), update.clone()),
            (Method::POST, format!("update?accessToken={token}"), sealed(&update)),
            // The answer tells nothing about a sealed text.
            (Method::POST, format!("update?accessToken={token}"), sealed("{")),
            (Method::GET, format!("get?accessToken={key}&sessionId={query}"), String::new()),
            (Method::GET, format!("get?accessToken={token}&sessionId={query}"), String::new()),
            (Method::POST, "../gettoken".to_owned(), sealed(&time)),
        ] {
            let path = format!("/cgi/session/{path}").replace("session/../", "");
            let request = app.client.request(method, &path).header(header, value);
            let response = request.body(body).send().await.unwrap();
            assert_eq!(read_response(response).await, expected, "{path}: {value}");
        }
    }
    assert_eq!(app.current(&session).await, session);
    assert_eq!(store::count_sessions(&app.pool).await, 1);
    // The refused token request was not used up.
    let again = app.client.post("/cgi/gettoken", sealed(&time)).await;
    assert_eq!(app.client.open_response(again).await["errcode"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_access_learns_only_that() {
    let app = spawn_app().await;
    let path = "/cgi/session/create?accessToken=msk_unknown";
    let request = app.client.request(Method::POST, path).header("If-Match", "*");
    let got: Value = request.body("{}").send().await.unwrap().json().await.unwrap();
    assert_eq!(got["errcode"], 100_001, "{got}");
}
