//! Headers that every response has, for browsers and caches.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, Response};

use crate::harness::process::http;
use crate::harness::{TestApp, spawn_app_with};
use crate::metrics::spawn_with;
use crate::transport::CertificateFiles;

/// Requests with their status: of each API, of health, and without a route.
fn requests(app: &TestApp, session_id: &str) -> Vec<(Method, String, u16)> {
    let key = &app.api_key;
    let long = "x".repeat(9_000);
    [
        (Method::GET, format!("/cgi/session/get?accessToken={key}&sessionId={session_id}"), 200),
        (Method::GET, "/cgi/session/get".to_owned(), 200),
        (Method::POST, "/cgi/gettoken".to_owned(), 200),
        (Method::PUT, "/cgi/gettoken".to_owned(), 405),
        (Method::GET, format!("/cgi/session/get?{long}"), 414),
        (Method::POST, "/cgi/msg/send".to_owned(), 501),
        (Method::GET, format!("/v1/sessions/{session_id}"), 200),
        (Method::HEAD, format!("/v1/sessions/{session_id}"), 200),
        (Method::GET, "/v1/sessions".to_owned(), 200),
        (Method::GET, "/v1/sessions/5".to_owned(), 400),
        (Method::PATCH, "/v1/sessions/5".to_owned(), 400),
        (Method::GET, "/v1/nothing".to_owned(), 404),
        (Method::GET, "/healthz".to_owned(), 200),
        (Method::GET, "/readyz".to_owned(), 200),
        (Method::POST, "/healthz".to_owned(), 405),
        (Method::GET, "/".to_owned(), 404),
        (Method::GET, "/anything".to_owned(), 404),
    ]
    .into()
}

async fn send(app: &TestApp, client: &Client, method: Method, url: &str) -> Response {
    client.request(method, url).bearer_auth(&app.api_key).send().await.unwrap()
}

#[track_caller]
fn is_protected(headers: &HeaderMap, case: &str) {
    let all = |name: &str| headers.get_all(name).iter().collect::<Vec<_>>();
    assert_eq!(all("cache-control"), ["no-store"], "{case}");
    assert_eq!(all("x-content-type-options"), ["nosniff"], "{case}");
    assert!(all("strict-transport-security").is_empty(), "{case}");
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_forbid_caching_and_type_guessing() {
    // Without TLS, browsers must ignore the third header.
    let app =
        spawn_with(|settings| settings.server.hsts_max_age = Some(Duration::from_secs(9))).await;
    let session = app.session(&["a", "b", "c"]).await;
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    let http2 = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for client in [http(), http2] {
        for (method, path, status) in requests(&app, id) {
            let url = format!("http://{}{path}", app.address);
            let response = send(&app, &client, method.clone(), &url).await;
            let case = format!("{method} {path}");
            assert_eq!(response.status(), status, "{case}");
            is_protected(response.headers(), &case);
        }
    }
    let read = app.client.request(Method::GET, &format!("/v1/sessions/{id}"));
    let read =
        read.bearer_auth(&app.api_key).header("If-None-Match", "\"1\"").send().await.unwrap();
    assert_eq!(read.status(), 304);
    is_protected(read.headers(), "not modified");
    for path in ["/metrics", "/healthz", "/readyz", "/nothing"] {
        let url = format!("http://{}{path}", app.metrics.unwrap());
        is_protected(http().get(url).send().await.unwrap().headers(), path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_documentation_may_be_kept() {
    let app = spawn_app_with(|_| {}).await;
    for (path, expected) in [
        ("/v1/docs", "max-age=3600"),
        ("/v1/docs/", "max-age=3600"),
        ("/v1/docs/start.js", "max-age=3600"),
        ("/v1/docs/swagger-ui.css", "max-age=3600"),
        ("/v1/openapi.json", "no-cache"),
    ] {
        let response = app.client.get(path).await;
        let kept: Vec<_> = response.headers().get_all("cache-control").iter().collect();
        assert_eq!(kept, [expected], "{path}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hsts_header_is_sent_if_configured() {
    let certificate = CertificateFiles::new();
    for (max_age, expected) in
        [(Some(Duration::from_secs(86_400)), Some("max-age=86400")), (None, None)]
    {
        let app = crate::transport::spawn_tls_app(&certificate, |settings| {
            settings.server.hsts_max_age = max_age;
        })
        .await;
        for client in [certificate.client().http1_only(), certificate.client()] {
            let client = client.build().unwrap();
            for path in ["/healthz", "/cgi/session/get", "/v1/sessions", "/v1/docs", "/nothing"] {
                let url = format!("https://{}{path}", app.address);
                let response = client.get(url).send().await.unwrap();
                let found = response.headers().get("strict-transport-security");
                assert_eq!(found.map(|value| value.to_str().unwrap()), expected, "{path}");
            }
        }
    }
}
