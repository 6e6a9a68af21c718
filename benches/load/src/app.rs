//! An app of the server: its envelope, its token, and the requests that it makes.

use anyhow::Context as _;
use muster::wire::{AesKey, Envelope};
use serde_json::{Value, json};

use crate::{accounts, generator, http};

/// An app with a token.
#[derive(Clone)]
pub struct App {
    /// The enterprise.
    pub buin: i64,
    /// The app's id.
    pub id: String,
    /// The envelope.
    pub envelope: Envelope,
    /// The AES key, in base64.
    pub key: String,
    token: String,
}

impl App {
    /// Fetches a token for an app, given its `credentials` as `muster app` prints them.
    ///
    /// # Errors
    /// If the credentials are incomplete, or the server refuses them.
    pub fn with_token(port: u16, credentials: &Value) -> anyhow::Result<Self> {
        let buin = credentials["buin"].as_i64().context("no buin")?;
        let id = credentials["appId"].as_str().context("no appId")?.to_owned();
        let key = credentials["aesKey"].as_str().context("no aesKey")?.to_owned();
        let envelope = Envelope::new(&AesKey::from_base64(&key)?, &id);
        let mut app = Self { buin, id, envelope, key, token: String::new() };
        let now = muster::clock::Clock::system().now().timestamp();
        let request = http::post("/cgi/gettoken", &app.seal(&now.to_string()));
        let answer = generator::call(port, &app.envelope, &request)?;
        app.token = answer["accessToken"].as_str().context("no accessToken")?.to_owned();
        Ok(app)
    }

    /// A request that reads a session.
    pub fn get(&self, session: &str) -> Vec<u8> {
        let token = &self.token;
        http::get(&format!("/cgi/session/get?accessToken={token}&sessionId=%7B{session}%7D"))
    }

    /// A request that creates a session of `count` members, beginning with `first`.
    pub fn create(&self, first: u64, count: u64) -> Vec<u8> {
        let mut members = accounts::members(first, count);
        let creator = members.remove(0);
        let title = title(first);
        self.call("create", &json!({"title": title, "creator": creator, "member": members}))
    }

    /// A request that adds one member and removes others.
    pub fn update(&self, session: &str, operator: &str, add: &str, remove: &[&str]) -> Vec<u8> {
        let id = format!("{{{session}}}");
        self.call(
            "update",
            &json!({"sessionId": id, "opUser": operator, "addMember": [add], "delMember": remove}),
        )
    }

    fn call(&self, call: &str, message: &Value) -> Vec<u8> {
        let path = format!("/cgi/session/{call}?accessToken={}", self.token);
        http::post(&path, &self.seal(&message.to_string()))
    }

    fn seal(&self, message: &str) -> String {
        let sealed = self.envelope.seal(message.as_bytes());
        json!({"buin": self.buin, "appId": self.id, "encrypt": sealed}).to_string()
    }
}

/// The title of a generated session.
pub fn title(number: u64) -> String {
    format!("Session {number}")
}
