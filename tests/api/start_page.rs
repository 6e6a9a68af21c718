//! `GET /`: a page for browsers, and nothing for other clients.

use reqwest::{Method, Response};

use crate::harness::{TestApp, spawn_app};

/// The header `Accept` of Firefox.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

async fn send(app: &TestApp, method: Method, path: &str, accept: Option<&str>) -> Response {
    let builder = app.client.request(method, path);
    let builder = match accept {
        Some(accept) => builder.header("Accept", accept),
        None => builder,
    };
    builder.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_gets_a_page_with_links() {
    let app = spawn_app().await;
    for accept in [BROWSER, "text/html", "TEXT/HTML;q=0.5, application/json;q=0.5"] {
        let response = send(&app, Method::GET, "/", Some(accept)).await;
        assert_eq!(response.status(), 200, "{accept}");
        let headers = response.headers().clone();
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["vary"], "Accept");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");

        let page = response.text().await.unwrap();
        assert!(page.contains(&format!("Muster {}", env!("CARGO_PKG_VERSION"))), "{page}");
        for word in ["<script", "<style", "style=", "onload", "onclick", "//", &app.api_key] {
            assert!(!page.contains(word), "{word}: {page}");
        }
        let links: Vec<&str> =
            page.split("<a href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(links, ["v1/docs", "v1/openapi.json", "healthz", "readyz"]);
        for link in links {
            assert_eq!(app.client.get(&format!("/{link}")).await.status(), 200, "{link}");
        }
    }
    let head = send(&app, Method::HEAD, "/", Some(BROWSER)).await;
    assert_eq!((head.status().as_u16(), head.text().await.unwrap()), (200, String::new()));
}

/// All other requests get the answer of an unknown path.
#[tokio::test(flavor = "multi_thread")]
async fn other_clients_get_the_answer_of_an_unknown_path() {
    let app = spawn_app().await;
    let answer = async |response: Response| {
        let mut headers = response.headers().clone();
        headers.remove("x-request-id");
        headers.remove("date");
        (response.status().as_u16(), headers, response.text().await.unwrap())
    };
    let unknown = answer(send(&app, Method::GET, "/unknown", None).await).await;
    assert_eq!(unknown.0, 404);
    assert!(unknown.2.contains("100003"), "{}", unknown.2);
    for accept in [
        None,
        Some("*/*"),
        Some("application/json"),
        Some("text/html;q=0"),
        Some("application/json, text/html;q=0.9"),
        Some("text/plain, text/htmlx"),
        Some("é"),
    ] {
        let found = answer(send(&app, Method::GET, "/", accept).await).await;
        assert_eq!(found, unknown, "{accept:?}");
    }
    for (method, path) in [(Method::POST, "/"), (Method::DELETE, "/"), (Method::GET, "/index.html")]
    {
        let found = answer(send(&app, method.clone(), path, Some(BROWSER)).await).await;
        assert_eq!((found.0, found.2), (404, unknown.2.clone()), "{method} {path}");
    }
}
