//! `X-Request-Id`: accepted or generated, and always returned.

use std::time::Duration;

use reqwest::{Method, Response};

use crate::harness::raw::{RawResponse, exchange};
use crate::harness::{TestApp, spawn_app, spawn_app_with};

async fn get_as(app: &TestApp, id: &str) -> String {
    let request = app.client.request(Method::GET, "/healthz").header("X-Request-Id", id);
    id_of(&request.send().await.unwrap())
}

fn id_of(response: &Response) -> String {
    let mut ids = response.headers().get_all("x-request-id").iter();
    let id = ids.next().unwrap().to_str().unwrap().to_owned();
    assert_eq!(ids.next(), None, "the header appears once");
    id
}

/// Whether Muster generated the id.
fn is_generated(id: &str) -> bool {
    id.len() == 32 && id.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

#[tokio::test(flavor = "multi_thread")]
async fn valid_request_id_is_kept() {
    let app = spawn_app().await;
    let longest = "x".repeat(64);
    for id in [
        "1",
        "b3f0c9e2-1e9a-4d3a-9a54-5a8a5a0f5a10",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "Root=1-67891233-abcdef012345678912345678",
        "a.b_c:d/e+f=@-",
        &longest,
    ] {
        assert_eq!(get_as(&app, id).await, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_request_id_is_replaced() {
    let app = spawn_app().await;
    let long = "x".repeat(65);
    let (token, key) = (app.client.token().await, app.api_key.clone());
    let (prefixed, quoted) = (format!("Bearer:{key}"), format!("\"{}\"", &key[4..]));
    for id in ["", " ", "a b", "a\tb", "a,b", "a;b", "{a}", &long, &token, &key, &prefixed, &quoted]
    {
        let generated = get_as(&app, id).await;
        assert!(is_generated(&generated), "{id:?}: {generated}");
    }
    // Bytes that are not ASCII.
    let header = "GET /healthz HTTP/1.1\r\nHost: muster\r\nConnection: close\r\nX-Request-Id: ";
    for id in ["项目".as_bytes(), b"\xff\xfe"] {
        let request = [header.as_bytes(), id, b"\r\n\r\n"].concat();
        let got = exchange(app.address, &request).await;
        assert!(is_generated(got.header("x-request-id").unwrap()), "{got:?}");
    }
    // A header with invalid bytes makes the request invalid.
    let request = [header.as_bytes(), b"a\0b\r\n\r\n"].concat();
    assert_eq!(exchange(app.address, &request).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_has_a_request_id() {
    let app = spawn_app_with(|settings| {
        settings.limits.max_body_bytes = 1024;
        settings.server.body_timeout = Duration::from_secs(1);
    })
    .await;
    let mut ids = Vec::new();
    for (method, path, body, status) in [
        (Method::GET, "/healthz", "", 200),
        (Method::GET, "/readyz", "", 200),
        (Method::GET, "/nowhere", "", 404),
        (Method::PUT, "/cgi/gettoken", "", 405),
        (Method::POST, "/cgi/gettoken", "x", 200),
        (Method::POST, "/cgi/gettoken", &" ".repeat(1025), 413),
        (Method::GET, "/cgi/session/get", "", 200),
    ] {
        for given in [None, Some("given-1")] {
            let mut request = app.client.request(method.clone(), path).body(body.to_owned());
            if let Some(id) = given {
                request = request.header("X-Request-Id", id);
            }
            let response = request.send().await.unwrap();
            // A busy database may be too slow for one probe.
            if path != "/readyz" {
                assert_eq!(response.status(), status, "{path}");
            }
            match given {
                Some(id) => assert_eq!(id_of(&response), id, "{path}"),
                None => ids.push(id_of(&response)),
            }
        }
    }
    let slow = "POST /cgi/gettoken HTTP/1.1\r\nHost: muster\r\nContent-Length: 9\r\n\r\n";
    let slow = exchange(app.address, slow.as_bytes()).await;
    assert_eq!(slow.status, 408);
    let id = |answer: &RawResponse| answer.header("x-request-id").unwrap().to_owned();
    ids.push(id(&slow));
    assert!(ids.iter().all(|id| is_generated(id)), "{ids:?}");
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "each id is unique");
}
