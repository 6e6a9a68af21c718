//! `GET /v1/events` as a stream and as a request that waits.

mod ends;
mod filters;
mod limits;
mod reading;
mod waiting;

use muster::domain::Permission;
use reqwest::{Client, Method, RequestBuilder, Response, Version};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::process::WAIT_TIMEOUT;
use crate::harness::{BUIN, TestApp};
use crate::v1::{request, result, send};

pub const EVENTS: &str = "/v1/events";
pub const MEDIA_TYPE: &str = "text/event-stream";

/// An event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    pub id: String,
    pub name: String,
    pub data: String,
}

/// A stream, as a client reads it.
pub struct EventReader {
    response: Response,
    unread: Vec<u8>,
    comments: usize,
}

impl SseEvent {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }

    pub fn seq(&self) -> i64 {
        self.json()["seq"].as_i64().unwrap()
    }
}

impl EventReader {
    /// A stream with the API key of the default app.
    async fn open(app: &TestApp, path: &str) -> Self {
        Self::from_request(request(app, Method::GET, path)).await
    }

    pub async fn from_request(request: RequestBuilder) -> Self {
        let response = request.header("accept", MEDIA_TYPE).send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        if status != 200 {
            panic!("{status}: {}", response.text().await.unwrap());
        }
        assert_eq!(headers["content-type"], MEDIA_TYPE);
        assert_eq!(headers["cache-control"], "no-store");
        Self::over(response)
    }

    /// The stream of a response that has begun.
    pub fn over(response: Response) -> Self {
        Self { response, unread: Vec::new(), comments: 0 }
    }

    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<SseEvent> {
        timeout(WAIT_TIMEOUT, self.try_next()).await.expect("no event").unwrap()
    }

    /// The next event; `None` at the end of the stream, and an error if the connection breaks.
    pub async fn try_next(&mut self) -> reqwest::Result<Option<SseEvent>> {
        loop {
            let text = std::str::from_utf8(&self.unread).unwrap_or_default();
            if let Some((block, _)) = text.split_once("\n\n") {
                let (block, len) = (block.to_owned(), block.len() + 2);
                self.unread.drain(..len);
                if block.starts_with(':') {
                    self.comments += 1;
                    continue;
                }
                let mut fields = block.split('\n');
                let mut field = |name: &str| {
                    let line = fields.next().unwrap();
                    line.strip_prefix(name).unwrap_or_else(|| panic!("{block}")).to_owned()
                };
                let (id, name, data) = (field("id: "), field("event: "), field("data: "));
                assert_eq!(fields.next(), None, "{block}");
                return Ok(Some(SseEvent { id, name, data }));
            }
            match self.response.chunk().await? {
                Some(chunk) => self.unread.extend_from_slice(&chunk),
                None => {
                    assert_eq!(self.unread, b"", "the stream ends within an event");
                    return Ok(None);
                }
            }
        }
    }

    /// The next change. Its id is the cursor in its data.
    pub async fn change(&mut self) -> SseEvent {
        loop {
            let event = self.next().await.expect("the stream has ended");
            match event.name.as_str() {
                "bookmark" => assert_eq!(event.json(), json!({ "cursor": event.id })),
                "change" => {
                    assert_eq!(event.json()["cursor"], event.id);
                    return event;
                }
                _ => panic!("{event:?}"),
            }
        }
    }

    /// The next event, which must be a bookmark.
    pub async fn bookmark(&mut self) -> SseEvent {
        let event = self.next().await.expect("the stream has ended");
        assert_eq!(
            (event.name.as_str(), event.json()),
            ("bookmark", json!({ "cursor": event.id }))
        );
        event
    }
}

/// A client that speaks HTTP/2.
fn http2() -> Client {
    Client::builder().no_proxy().http2_prior_knowledge().build().unwrap()
}

/// A stream over HTTP/2.
async fn open_http2(app: &TestApp, path: &str) -> EventReader {
    let url = format!("http://{}{path}", app.address);
    let reader = EventReader::from_request(http2().get(url).bearer_auth(&app.api_key)).await;
    assert_eq!(reader.response.version(), Version::HTTP_2);
    reader
}

/// The changes of a page as their JSON texts, and the page.
async fn page(app: &TestApp, query: &str) -> (Vec<String>, Value) {
    let response = request(app, Method::GET, &format!("{EVENTS}?{query}")).send().await.unwrap();
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert_eq!(status, 200, "{text}");
    let page: Value = serde_json::from_str(&text).unwrap();
    let mut rest = text.strip_prefix(r#"{"events":["#).unwrap();
    let mut events = Vec::new();
    for _ in page["events"].as_array().unwrap() {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        values.next().unwrap().unwrap();
        let (event, after) = rest.split_at(values.byte_offset());
        events.push(event.to_owned());
        rest = after.trim_start_matches(',');
    }
    (events, page)
}

/// Changes the title of a session.
async fn rename(app: &TestApp, path: &str, title: &str) -> Value {
    let body = json!({ "operator": "alice", "title": title });
    result(send(app, Method::PATCH, path, &body).await).await
}

/// An API key of another app of the enterprise.
async fn another_key(app: &TestApp) -> String {
    app.another_app(BUIN, &[Permission::SessionsRead]).await.1
}
