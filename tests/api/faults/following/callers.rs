//! Clients of two servers, of which each may die during a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

use crate::harness::process::{WAIT_TIMEOUT, http, plain_http};

/// The pause after a request that was not answered.
const PAUSE: Duration = Duration::from_millis(20);
/// The path with which a client begins again.
const SNAPSHOT: &str = "/v1/events?snapshot=true";

/// The servers as a client knows them.
#[derive(Clone)]
pub struct Callers {
    urls: [String; 2],
    key: String,
    http: reqwest::Client,
    /// Responses of this client may last.
    streams: reqwest::Client,
    stop: Arc<AtomicBool>,
}

/// The answer of a server.
#[derive(Debug)]
pub enum Answer<T> {
    Ok(T),
    /// The cursor belongs to another history.
    Expired,
    /// There is no answer, or the service is unavailable.
    Again,
}

impl Callers {
    pub fn new(urls: [String; 2], key: &str, stop: &Arc<AtomicBool>) -> Self {
        let http = http();
        let streams = plain_http().read_timeout(WAIT_TIMEOUT);
        let streams = streams.build().unwrap();
        Self { urls, key: key.to_owned(), http, streams, stop: stop.clone() }
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Sends a request to one of the servers.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer<Value> {
        let request = self.http.request(method, self.url(path)).bearer_auth(&self.key);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        match self.send(request).await {
            Answer::Ok(response) => match response.json().await {
                Ok(body) => Answer::Ok(body),
                Err(_) => self.again().await,
            },
            Answer::Expired => Answer::Expired,
            Answer::Again => Answer::Again,
        }
    }

    /// Sends a request until it is answered.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        loop {
            match self.call(method.clone(), path, body).await {
                Answer::Ok(body) => return body,
                Answer::Again => {}
                Answer::Expired => panic!("{path}: the cursor has expired"),
            }
        }
    }

    /// Opens a stream on one of the servers.
    pub async fn open(&self, path: &str, last_id: Option<&str>) -> Answer<Response> {
        let request = self.streams.get(self.url(path)).bearer_auth(&self.key);
        let request = request.header("accept", "text/event-stream");
        self.send(match last_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        })
        .await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.urls[rand::random_range(0..2)])
    }

    async fn send(&self, request: RequestBuilder) -> Answer<Response> {
        let Ok(response) = request.send().await else { return self.again().await };
        let status = response.status().as_u16();
        match status {
            200 | 201 => return Answer::Ok(response),
            503 | 504 => return self.again().await,
            _ => {}
        }
        let link = response.headers().get("link").cloned();
        let problem = response.text().await.unwrap_or_default();
        assert_eq!(status, 410, "{problem}");
        let problem: Value = serde_json::from_str(&problem).unwrap();
        assert_eq!(problem["code"], "cursor_expired", "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("the history of the database is another one"), "{problem}");
        assert!(link.unwrap().to_str().unwrap().contains(SNAPSHOT), "{problem}");
        Answer::Expired
    }

    async fn again<T>(&self) -> Answer<T> {
        tokio::time::sleep(PAUSE).await;
        Answer::Again
    }
}
