//! Counters and histograms of requests, statements, the cache and deliveries.

use std::time::Duration;

use muster::domain::{Callback, Permission};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{scrape, spawn, spawn_with};
use crate::harness::process::http;
use crate::harness::{BUIN, insert, new_app, raw, store, wait_until};

/// The timeout of a request body.
const BODY_TIMEOUT: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn requests_count_for_their_route() {
    let app = spawn().await;
    let session = app.session(&["a", "b", "c"]).await;
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    app.get(id).await;
    app.get("no-id").await;
    let v1 = |path: String| {
        http().get(format!("http://{}{path}", app.address)).bearer_auth(&app.api_key).send()
    };
    for (path, status) in [
        (format!("/v1/sessions/{id}"), 200),
        (format!("/v1/sessions/{id}/events"), 200),
        ("/v1/sessions/00000000-0000-7000-8000-000000000000".to_owned(), 404),
        ("/v1/nothing".to_owned(), 404),
        ("/nothing".to_owned(), 404),
        ("/healthz".to_owned(), 200),
    ] {
        assert_eq!(v1(path.clone()).await.unwrap().status(), status, "{path}");
    }
    app.client.get("/cgi/session/create").await;

    let metrics = scrape(&app).await;
    for (route, method, status, count) in [
        ("/cgi/session/create", "POST", "2xx", 1.0),
        ("/cgi/session/create", "GET", "4xx", 1.0),
        ("/cgi/session/get", "GET", "2xx", 2.0),
        ("/v1/sessions/{sessionId}", "GET", "2xx", 1.0),
        ("/v1/sessions/{sessionId}", "GET", "4xx", 1.0),
        ("/v1/sessions/{sessionId}/events", "GET", "2xx", 1.0),
        ("other", "GET", "4xx", 2.0),
        ("/healthz", "GET", "2xx", 1.0),
    ] {
        let labels = format!("route=\"{route}\",method=\"{method}\"");
        let series = format!("http_requests_total{{{labels},status=\"{status}\"}}");
        assert_eq!(metrics.has(&series), count, "{series}");
        let bucket = format!("http_request_duration_seconds_bucket{{le=\"+Inf\",{labels}}}");
        assert!(metrics.has(&bucket) >= count, "{bucket}");
        let count = format!("http_request_duration_seconds_count{{{labels}}}");
        assert_eq!(metrics.has(&count), metrics.has(&bucket));
        let sum = format!("http_request_duration_seconds_sum{{{labels}}}");
        assert!((0.0..20.0).contains(&metrics.has(&sum)), "{sum}");
    }
    assert_eq!(metrics.has("muster_cgi_errors_total{errcode=\"400002\",status=\"2xx\"}"), 1.0);
    assert_eq!(metrics.has("muster_cgi_errors_total{errcode=\"100003\",status=\"4xx\"}"), 2.0);
    assert_eq!(metrics.has("muster_v1_problems_total{code=\"session_not_found\"}"), 1.0);
    assert_eq!(metrics.has("muster_v1_problems_total{code=\"endpoint_not_found\"}"), 1.0);
    wait_until("no request", async || scrape(&app).await.has("http_requests_in_flight") == 0.0)
        .await;
    assert!(!metrics.series.keys().any(|series| series.contains("errcode=\"0\"")));
}

#[tokio::test(flavor = "multi_thread")]
async fn incomplete_body_is_not_in_the_duration_histogram() {
    let app = spawn_with(|settings| settings.server.body_timeout = BODY_TIMEOUT).await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let header = "POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(header.as_bytes()).await.unwrap();
    assert_eq!(raw::read_response(&mut stream).await.status, 408);

    let metrics = scrape(&app).await;
    let labels = "route=\"/cgi/gettoken\",method=\"POST\"";
    assert_eq!(metrics.has(&format!("http_requests_total{{{labels},status=\"4xx\"}}")), 1.0);
    assert_eq!(metrics.has(&format!("http_request_duration_seconds_count{{{labels}}}")), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_and_cache_are_counted() {
    let app = spawn_with(|settings| settings.cache.enabled = true).await;
    let session = app.session(&["a", "b", "c"]).await;
    // The cache answers only while it is synced, so the test repeats the read.
    loop {
        app.current(&session).await;
        let metrics = scrape(&app).await;
        if metrics.has("muster_cache_hits_total") >= 1.0 && metrics.has("muster_cache_fresh") == 1.0
        {
            assert!(metrics.has("muster_cache_sync_age_seconds") < 20.0);
            break;
        }
    }
    app.change(&session, "a", json!({ "title": "after" })).await;
    app.get("00000000-0000-7000-8000-000000000000").await;

    let metrics = scrape(&app).await;
    let statement_metric = |name: &str, kind: &str| {
        metrics.has(&format!("muster_statement_{name}{{kind=\"{kind}\"}}"))
    };
    for kind in ["create", "update"] {
        assert_eq!(
            (statement_metric("items_count", kind), statement_metric("items_sum", kind)),
            (1.0, 1.0),
            "{kind}"
        );
        assert_eq!(statement_metric("duration_seconds_count", kind), 1.0);
        assert_eq!(statement_metric("failures_total", kind), 0.0);
        assert_eq!(metrics.has(&format!("muster_queue_length{{kind=\"{kind}\"}}")), 0.0);
    }
    assert!(statement_metric("items_count", "read") >= 1.0);
    assert!(metrics.has("muster_cache_misses_total") >= 1.0);
    assert_eq!(metrics.has("muster_cache_entries"), 1.0);
    let bytes = metrics.has("muster_cache_bytes");
    assert!((100.0..10_000.0).contains(&bytes), "{bytes}");
    assert_eq!(metrics.has("muster_cache_max_bytes"), 268_435_456.0);
    assert_eq!(metrics.has("muster_cache_evictions_total"), 0.0);
    assert!(metrics.has("muster_dedicated_connections_opened_total") >= 3.0);
    assert_eq!(metrics.has("muster_dedicated_connection_failures_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn version_conflicts_are_counted() {
    let app = spawn_with(|settings| settings.cache.enabled = true).await;
    let session = app.session(&["a", "b", "c"]).await;
    // The server decides on its cached version until it notices the write of another server.
    let mut version = 1;
    loop {
        version += 1;
        store::overwrite_sessions(&app, "theirs").await;
        version += 1;
        let changed = app.change(&session, "a", json!({ "title": format!("{version}") })).await;
        assert_eq!(changed["version"], version, "{changed}");
        if scrape(&app).await.has("muster_version_conflicts_total") >= 1.0 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_attempts_are_counted() {
    let app = spawn_with(|settings| settings.delivery.enabled = true).await;
    let mut subscriber = new_app(BUIN, &[Permission::Callbacks]);
    // No program listens at this port.
    let callback = Callback { url: "http://127.0.0.1:1/".to_owned(), token: "t".to_owned() };
    subscriber.app.callback = Some(callback);
    insert(&app.pool, &subscriber).await;
    app.another_app(BUIN, &[]).await;
    app.session(&["a", "b", "c"]).await;
    let no_response = "muster_delivery_attempts_total{result=\"no_response\"}";
    let metrics = loop {
        let metrics = scrape(&app).await;
        if metrics.value(no_response) >= 1.0 {
            break metrics;
        }
    };
    assert_eq!(metrics.has("muster_delivery_attempts_total{result=\"acknowledged\"}"), 0.0);
    assert_eq!(metrics.has("muster_delivery_attempts_total{result=\"rejected\"}"), 0.0);
    assert_eq!(metrics.has("muster_delivery_duration_seconds_count"), 1.0);
    assert_eq!(metrics.has("muster_circuit_breakers_open"), 0.0);
    assert_eq!(metrics.has("muster_deliveries_failed_total"), 0.0);
}
