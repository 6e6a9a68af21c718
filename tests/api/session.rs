//! Creating, reading and changing sessions, through the wire protocol.

use serde_json::json;

use crate::harness::spawn_app;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_created_can_be_read_in_both_forms() {
    let app = spawn_app().await;
    let token = app.client.token().await;
    let message = json!({ "title": "项目周会", "creator": "a", "member": ["b", 10232] });
    let created = app.client.post_sealed(&token, "/cgi/session/create", &message).await;
    assert_eq!(created["errcode"], 0, "{created}");
    assert_eq!(created["member"], json!(["a", "b", "10232"]));
    let id = created["sessionId"].as_str().unwrap();
    assert_eq!(app.client.get_session(&token, id).await, created);
    assert_eq!(app.get(id).await, created);
}
