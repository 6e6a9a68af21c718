//! An enterprise with an API key, and its requests to the REST API.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::http;

/// The members of a large session. Accounts of 64 characters are the longest.
pub const LARGE: usize = 1_900;

/// An enterprise with an API key.
#[derive(Clone)]
pub struct Enterprise {
    /// The port of the server.
    pub port: u16,
    key: String,
}

impl Enterprise {
    /// The enterprise of an API key, as `muster key create` prints it.
    ///
    /// # Errors
    /// If there is no key.
    pub fn new(port: u16, created: &Value) -> anyhow::Result<Self> {
        let key = created["key"].as_str().context("no key")?.to_owned();
        Ok(Self { port, key })
    }

    /// The same enterprise on another server.
    pub fn at(&self, port: u16) -> Self {
        Self { port, ..self.clone() }
    }

    /// A GET of a path.
    pub fn get(&self, path: &str) -> Vec<u8> {
        self.header("GET", path, "\r\n").into_bytes()
    }

    /// A request with a body.
    pub fn send(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let rest =
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        (self.header(method, path, &rest) + body).into_bytes()
    }

    /// A request that creates a session with `count` long accounts and its creator.
    pub fn create(&self, title: &str, count: usize) -> Vec<u8> {
        let body = json!({"operator": "creator", "title": title, "member": accounts(count)});
        self.send("POST", "/v1/sessions", &body.to_string())
    }

    /// A request that adds (or removes) long accounts: all of a large session but two, because a
    /// session keeps three members.
    pub fn change(&self, session: &str, field: &str) -> Vec<u8> {
        let body = json!({"operator": "creator", field: accounts(LARGE)[2..]});
        self.send("PATCH", &format!("/v1/sessions/{session}"), &body.to_string())
    }

    /// Creates a session of `count` long accounts and its creator, and returns its id.
    ///
    /// # Errors
    /// If the server refuses it.
    pub fn session(&self, title: &str, count: usize) -> anyhow::Result<String> {
        let created = self.call(&self.create(title, count))?;
        let id = created["sessionId"].as_str().context("no sessionId")?;
        Ok(id.trim_matches(['{', '}']).to_owned())
    }

    /// Sends one request, and parses its response.
    ///
    /// # Errors
    /// If the request is not successful.
    pub fn call(&self, request: &[u8]) -> anyhow::Result<Value> {
        let (status, body) = http::exchange(&mut http::connect(self.port)?, request)?;
        let text = String::from_utf8_lossy(&body);
        ensure!((200..300).contains(&status), "status {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// The header of a request, which ends with `rest`.
    fn header(&self, method: &str, path: &str, rest: &str) -> String {
        let key = &self.key;
        format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n{rest}"
        )
    }
}

/// Different accounts of 64 characters.
fn accounts(count: usize) -> Vec<String> {
    (0..count.max(2)).map(|number| format!("{number:0>64}")).collect()
}
