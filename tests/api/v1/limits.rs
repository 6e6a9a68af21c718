//! `GET /v1/limits`.

use muster::config::{RemovalLimit, RemoveMembers};
use reqwest::Method;
use serde_json::{Value, json};

use super::request;
use crate::harness::{TestApp, spawn_app, spawn_app_with};

async fn limits(app: &TestApp) -> Value {
    request(app, Method::GET, "/v1/limits").send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn default_limits_are_reported() {
    let app = spawn_app().await;
    let expected = json!({
        "minMembers": 3,
        "minRemainingMembers": 3,
        "maxMembers": app.settings.limits.max_members,
        "removeMembers": "owner",
        "maxTitleLength": 64,
        "maxAccountLength": 64,
        "maxAttributesBytes": 16_384,
        "maxReasonLength": 256,
        "defaultPageLimit": 50,
        "maxPageLimit": 200,
        "maxBatchGetIds": 200,
        "maxBatchItems": 100,
        "maxIdempotencyKeyLength": 255,
        "idempotencyKeySeconds": 86_400,
        "maxBodyBytes": 1_048_576
    });
    assert_eq!(limits(&app).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_limits_are_reported() {
    let app = spawn_app_with(|settings| {
        settings.limits.min_members = 2;
        settings.limits.max_members = 7;
        settings.limits.max_body_bytes = 2048;
        settings.policy.remove_members = RemoveMembers::Member;
        settings.policy.remaining_members = RemovalLimit::DownToOne;
    })
    .await;
    let limits = limits(&app).await;
    let names =
        ["minMembers", "maxMembers", "maxBodyBytes", "removeMembers", "minRemainingMembers"];
    assert_eq!(
        names.map(|name| &limits[name]),
        [&json!(2), &json!(7), &json!(2048), &json!("member"), &json!(1)]
    );
}
