//! Tables that are altered while servers use them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::store;
use crate::harness::{TestApp, spawn_app_with};

async fn rest(app: &TestApp, method: Method, path: &str, body: Option<Value>) -> Value {
    let mut request = app.client.request(method, path).bearer_auth(&app.api_key);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.unwrap();
    assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
    response.json().await.unwrap()
}

/// Uses all kinds of statements about sessions.
async fn use_everything(app: &TestApp, session: &Value) {
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_owned();
    assert_eq!(app.get(&id).await["errcode"], 0);
    app.session(&["a", "b", "c"]).await;
    let changed = app.change(session, "a", json!({ "title": "t", "addMember": ["x"] })).await;
    assert_eq!(changed["errcode"], 0, "{changed}");
    let changed = app.change(session, "a", json!({ "title": "u", "delMember": ["x"] })).await;
    assert_eq!(changed["errcode"], 0, "{changed}");
    for path in [
        "/v1/sessions".to_owned(),
        "/v1/sessions?sort=-updatedAt".to_owned(),
        "/v1/sessions?title=t".to_owned(),
        "/v1/sessions?member=a".to_owned(),
        format!("/v1/sessions/{id}"),
        format!("/v1/sessions/{id}?version=1"),
        format!("/v1/sessions/{id}/events"),
        format!("/v1/sessions/{id}/members"),
    ] {
        rest(app, Method::GET, &path, None).await;
    }
    rest(app, Method::POST, "/v1/sessions/batch-get", Some(json!({ "ids": [id] }))).await;
    for _ in 0..2 {
        let create = json!({ "title": "t", "operator": "a", "member": ["b", "c"] });
        let request = app.client.request(Method::POST, "/v1/sessions").bearer_auth(&app.api_key);
        let request = request.header("Idempotency-Key", "the-same").json(&create);
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_columns_interrupt_no_statement() {
    let app = spawn_app_with(|settings| settings.cache.enabled = false).await;
    let session = app.session(&["a", "b", "c"]).await;
    use_everything(&app, &session).await;
    for (table, column) in [
        ("session", "title"),
        ("session", "owner"),
        ("session_member", "account"),
        ("session_event", "title"),
        ("session_event", "operator"),
        ("idempotency", "key"),
        ("app", "name"),
    ] {
        for to in ["varchar(500)", "text"] {
            store::alter_text_column(&app, table, column, to).await;
            use_everything(&app, &session).await;
        }
    }
}
