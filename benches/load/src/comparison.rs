//! A request that compares a copy of the sessions with the sessions.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::Context as _;
use serde_json::json;
use uuid::Uuid;

use crate::environment::Environment;
use crate::seed::Set;

/// One in so many pairs has another version than its session.
const DIFFERING: u64 = 1_000;

/// The request, and the pairs in it.
#[derive(Default)]
pub struct Comparison {
    request: Vec<u8>,
    /// The id and the version of each session of the copy.
    pub pairs: Vec<(Uuid, i64)>,
    /// The number of pairs that differ.
    pub differing: u64,
}

impl Comparison {
    /// A copy that names each session of a set `repetitions` times.
    ///
    /// # Errors
    /// If the app gets no key.
    pub fn new(env: &Environment, set: &Set, repetitions: u64) -> anyhow::Result<Self> {
        let buin = env.app.buin.to_string();
        let create = ["key", "create", "--buin", &buin, "--app-id", &env.app.id];
        let created = env.run_command(&create)?;
        let key = created["key"].as_str().context("no key")?;
        let (mut comparison, mut body) = (Self::default(), String::new());
        for n in 0..repetitions * set.count {
            let version = if n % DIFFERING == 0 { 2 } else { 1 };
            let id = set.id(n % set.count);
            comparison.pairs.push((id.parse()?, version));
            comparison.differing += u64::from(version == 2);
            body.push_str(&json!({ "sessionId": id, "version": version }).to_string());
            body.push('\n');
        }
        let head = format!(
            "POST /v1/sessions/compare HTTP/1.1\r\nHost: muster\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/x-ndjson\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        comparison.request = [head.into_bytes(), body.into_bytes()].concat();
        Ok(comparison)
    }

    /// Sends the request, and reads the response. Returns its end if it is not the right one.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn send(&self, port: u16) -> anyhow::Result<Option<String>> {
        let response = exchange(port, &self.request)?;
        let summary = json!({ "compared": self.pairs.len(), "differing": self.differing });
        if response.contains(&summary.to_string()) {
            return Ok(None);
        }
        let end: String = response.chars().rev().take(200).collect();
        Ok(Some(end.chars().rev().collect()))
    }
}

/// Sends a request on a new connection, and returns the whole response. The client reads while it sends.
fn exchange(port: u16, request: &[u8]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let mut sender = stream.try_clone()?;
    let mut response = Vec::new();
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || sender.write_all(request));
        stream.read_to_end(&mut response)?;
        sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        anyhow::Ok(())
    })?;
    Ok(String::from_utf8(response)?)
}
