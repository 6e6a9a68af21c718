//! The content of requests cannot add time series.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use super::{scrape, spawn};
use crate::harness::TestApp;
use crate::harness::process::http;

const METHODS: [&str; 7] = ["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"];

/// Sends `word` in every place that could become a label.
async fn send(app: &TestApp, method: &str, word: &str) {
    let base = format!("http://{}", app.address);
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let body = json!({ "buin": 1, "appId": word, "encrypt": word }).to_string();
    let paths = [
        format!("/{word}"),
        format!("/v1/{word}"),
        format!("/v1/sessions/{word}"),
        format!("/cgi/session/get?sessionId={word}&accessToken={word}"),
        format!("/cgi/gettoken?{word}"),
    ];
    let requests = paths.map(|path| {
        let request = http().request(method.clone(), format!("{base}{path}"));
        request
            .bearer_auth(format!("msk_{word}"))
            .header("x-request-id", word)
            .body(body.clone())
            .send()
    });
    for response in join_all(requests).await {
        response.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_cannot_create_series() {
    let app = spawn().await;
    for method in METHODS.into_iter().chain(["BREW"]) {
        send(&app, method, "first").await;
    }
    let before: BTreeSet<String> = scrape(&app).await.series.into_keys().collect();
    assert!(before.iter().any(|series| series.contains("method=\"other\"")));

    // Each call of `send` makes five requests.
    for number in 0..200 {
        let word = format!("{:x}", rand::random::<u64>());
        let method = match number % 10 {
            known @ 0..7 => METHODS[known].to_owned(),
            _ => word.to_uppercase(),
        };
        send(&app, &method, &word).await;
    }
    let metrics = scrape(&app).await;
    let all: f64 = metrics
        .series
        .iter()
        .filter(|(series, _)| series.starts_with("http_requests_total"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(all, 1_040.0);
    let after: BTreeSet<String> = metrics.series.into_keys().collect();
    assert_eq!(after, before);
}
