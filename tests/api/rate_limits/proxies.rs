//! The client address behind a proxy.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::process::Home;
use crate::harness::{TestApp, spawn_app_with};

/// The status of a call with an invalid key that a proxy forwards.
async fn guess(app: &TestApp, forwarded: &str) -> u16 {
    let request = app.client.request(Method::GET, "/v1/limits").bearer_auth("msk_wrong");
    request.header("X-Forwarded-For", forwarded).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_behind_a_trusted_proxy_are_distinguished() {
    let app = spawn_app_with(|settings| {
        settings.limits.max_failed_attempts = 2;
        settings.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    // Addresses further left are set by the caller and not trusted.
    for (forwarded, status) in [
        ("192.0.2.1", 401),
        ("8.8.8.8, 192.0.2.1", 401),
        ("7.7.7.7, 192.0.2.1", 429),
        ("192.0.2.2", 401),
        ("2001:db8::1", 401),
        ("2001:db8::2", 401),
        ("2001:db8::3", 429),
        ("2001:db8:0:1::1", 401),
    ] {
        assert_eq!(guess(&app, forwarded).await, status, "{forwarded}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn untrusted_forwarded_headers_are_ignored() {
    let app = spawn_app_with(|settings| settings.limits.max_failed_attempts = 2).await;
    for (forwarded, status) in [("192.0.2.1", 401), ("192.0.2.2", 401), ("192.0.2.3", 429)] {
        assert_eq!(guess(&app, forwarded).await, status, "{forwarded}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_names_the_client_address() {
    for (trusted, expected) in [("127.0.0.1/32,10.0.0.0/8", "192.0.2.1"), ("", "127.0.0.1")] {
        let mut home = Home::with_database();
        home.set("MUSTER__LOG__FORMAT", "json");
        if !trusted.is_empty() {
            home.set("MUSTER__SERVER__TRUSTED_PROXIES", trusted);
        }
        let server = home.serve();
        let request = crate::harness::process::http().get(server.url("/healthz"));
        let request = request.header("X-Forwarded-For", "6.6.6.6, 192.0.2.1, 10.0.0.9");
        assert_eq!(request.send().await.unwrap().status(), 200);
        let log = server.stop().stderr;
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let request: Vec<_> = lines.filter(|line| line["message"] == "request").collect();
        assert_eq!(request.len(), 1);
        assert_eq!(request[0]["client_address"], json!(expected));
    }
}
