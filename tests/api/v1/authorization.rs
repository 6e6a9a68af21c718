//! Authentication: only valid API keys are accepted.

use muster::domain::Permission;
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{problem, request};
use crate::harness::{BUIN, new_app, spawn_app};

const LIMITS: &str = "/v1/limits";

#[tokio::test(flavor = "multi_thread")]
async fn valid_api_keys_are_accepted() {
    let app = spawn_app().await;
    let (_, without_permissions) = app.another_app(BUIN, &[]).await;
    let (_, of_another_enterprise) = app.another_app(BUIN + 1, &[Permission::Callbacks]).await;
    for key in [&app.api_key, &without_permissions, &of_another_enterprise] {
        for scheme in ["Bearer", "bearer"] {
            let builder = app.client.request(Method::GET, LIMITS);
            let builder = builder.header(AUTHORIZATION, format!("{scheme} {key}"));
            assert_eq!(builder.send().await.unwrap().status(), StatusCode::OK);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_credentials_are_refused() {
    let app = spawn_app().await;
    let token = app.client.token().await;
    let mut disabled = new_app(BUIN, &[Permission::SessionsRead]);
    disabled.app.disabled = true;
    let (_, of_disabled) = app.add(&disabled).await;
    let unknown = muster::wire::ApiKey::generate();
    let known = "the API key is unknown or revoked, or its app is disabled";
    let no_key = "not an API key, which begins with msk_";
    for (header, code, why) in [
        (None, "missing_api_key", "must be `Bearer` and an API key"),
        (Some(String::new()), "missing_api_key", "must be `Bearer` and an API key"),
        (Some("Bearer ".to_owned()), "missing_api_key", "must be `Bearer` and an API key"),
        (Some(app.api_key.clone()), "missing_api_key", "must be `Bearer` and an API key"),
        (
            Some("Basic bXNrXzptc2tf".to_owned()),
            "missing_api_key",
            "must be `Bearer` and an API key",
        ),
        (Some(format!("Bearer {}", unknown.reveal())), "invalid_api_key", known),
        (Some(format!("Bearer {of_disabled}")), "invalid_api_key", known),
        (Some(format!("Bearer {}x", app.api_key)), "invalid_api_key", known),
        // Access tokens are valid for `/cgi` only.
        (Some(format!("Bearer {token}")), "invalid_api_key", no_key),
    ] {
        // A valid key in the query makes no difference.
        let path = format!("{LIMITS}?accessToken={}", app.api_key);
        let mut builder = app.client.request(Method::GET, &path);
        if let Some(header) = &header {
            builder = builder.header(AUTHORIZATION, header);
        }
        let response = builder.send().await.unwrap();
        let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
        let rest = json!({ "detail": format!("Authorization: {why}"), "field": "Authorization" });
        assert_eq!(problem(response).await, (401, code.to_owned(), rest), "{header:?}");
        let is_invalid = challenge.contains("invalid_token");
        assert!(challenge.starts_with("Bearer"), "{challenge}");
        assert_eq!(is_invalid, code == "invalid_api_key", "{challenge}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_database_gives_retry_after() {
    let app = spawn_app().await;
    app.pool.close().await;
    let unknown = muster::wire::ApiKey::generate();
    let builder = app.client.request(Method::GET, LIMITS).bearer_auth(unknown.reveal());
    let response = builder.send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    let rest = json!({ "detail": "the service is not available, try again" });
    assert_eq!(problem(response).await, (503, "unavailable".to_owned(), rest));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_are_not_found_with_a_key() {
    let app = spawn_app().await;
    for path in ["/v1", "/v1/", "/v1/nothing", "/v1/limits/", "/v1/%ff", "/v1/docs/nothing"] {
        for method in [Method::GET, Method::POST, Method::HEAD] {
            let response = request(&app, method.clone(), path).send().await.unwrap();
            if method == Method::HEAD {
                assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
            } else if (path, &method) != ("/v1/docs/nothing", &Method::POST) {
                let (status, code, _) = problem(response).await;
                assert_eq!((status, code.as_str()), (404, "endpoint_not_found"), "{path}");
            }
        }
    }
}
