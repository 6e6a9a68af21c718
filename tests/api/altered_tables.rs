//! Tables that are altered while servers use them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::store;
use crate::harness::{TestApp, spawn_app_with};
use crate::metrics::{scrape, spawn_with};

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

/// The connections that batchers have opened.
async fn opened(app: &TestApp) -> f64 {
    scrape(app).await.has("muster_dedicated_connections_opened_total")
}

const COLUMNS: [(&str, &str); 7] = [
    ("session", "title"),
    ("session", "owner"),
    ("session_member", "account"),
    ("session_event", "title"),
    ("session_event", "operator"),
    ("idempotency", "key"),
    ("app", "name"),
];

#[tokio::test(flavor = "multi_thread")]
async fn altered_columns_interrupt_no_statement() {
    let app = spawn_app_with(|settings| settings.cache.enabled = false).await;
    let session = app.session(&["a", "b", "c"]).await;
    use_everything(&app, &session).await;
    for (table, column) in COLUMNS {
        for to in ["varchar(500)", "text"] {
            store::alter_text_column(&app, table, column, to).await;
            use_everything(&app, &session).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_columns_close_no_connection_of_a_batcher() {
    let app = spawn_with(|settings| {
        settings.cache.enabled = false;
        settings.server.workers = 1;
    })
    .await;
    let session = app.session(&["a", "b", "c"]).await;
    use_everything(&app, &session).await;
    let before = opened(&app).await;
    for (table, column) in COLUMNS {
        for to in ["varchar(500)", "text"] {
            store::alter_text_column(&app, table, column, to).await;
            use_everything(&app, &session).await;
        }
    }
    assert_eq!(opened(&app).await, before);
}

/// Changes the session after another server has changed it, until the version of the cache was
/// outdated. Such a change runs again in a transaction.
async fn change_with_conflict(app: &TestApp, session: &Value, version: &mut i64) {
    let conflicts = async || scrape(app).await.has("muster_version_conflicts_total");
    let before = conflicts().await;
    while conflicts().await == before {
        store::overwrite_sessions(app, "theirs").await;
        *version += 2;
        let title = json!({ "title": version.to_string() });
        let changed = app.change(session, "a", title).await;
        assert_eq!(changed["version"], *version, "{changed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_column_interrupts_no_transaction_of_a_batcher() {
    let app = spawn_with(|settings| {
        settings.cache.enabled = true;
        settings.server.workers = 1;
    })
    .await;
    let session = app.session(&["a", "b", "c"]).await;
    let mut version = 1;
    change_with_conflict(&app, &session, &mut version).await;
    let before = opened(&app).await;
    for (table, column) in
        [("session", "title"), ("session", "owner"), ("session_member", "account")]
    {
        for to in ["varchar(500)", "text"] {
            store::alter_text_column(&app, table, column, to).await;
            change_with_conflict(&app, &session, &mut version).await;
        }
    }
    assert_eq!(opened(&app).await, before);
}
