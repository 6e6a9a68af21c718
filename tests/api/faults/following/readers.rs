//! Readers of all kinds, which go on at either server, and begin again when their cursor has expired.

use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::RwLock;
use tokio::time::timeout;

use super::callers::{Answer, Callers};
use super::proof::{ConsumerProof, MirrorProof, StreamProof};
use crate::feed::streams::{EVENTS, EventReader};
use crate::harness::process::WAIT_TIMEOUT;

/// The consumer, without its path.
const CONSUMER: &str = "/v1/consumers/followers";

/// Reads the pages of a filter, and waits for changes at the end.
pub async fn read_pages(callers: Callers, filter: String, proof: Arc<Mutex<StreamProof>>) {
    let mut after = "0".to_owned();
    while !callers.is_stopped() {
        let path = format!("{EVENTS}?after={after}&limit=200&wait=1s{filter}");
        match callers.call(Method::GET, &path, None).await {
            Answer::Ok(page) => {
                let mut proof = proof.lock().unwrap();
                page["events"].as_array().unwrap().iter().for_each(|event| proof.add(event));
                after = page["nextCursor"].as_str().unwrap().to_owned();
            }
            Answer::Expired => {
                proof.lock().unwrap().begin_again();
                "0".clone_into(&mut after);
            }
            Answer::Again => {}
        }
    }
}

/// Reads the stream of a filter, and opens it again at the last id.
pub async fn read_stream(callers: Callers, filter: String, proof: Arc<Mutex<StreamProof>>) {
    let path = format!("{EVENTS}?after=0{filter}");
    let mut last_id = None;
    while !callers.is_stopped() {
        let mut reader = match callers.open(&path, last_id.as_deref()).await {
            Answer::Ok(response) => EventReader::over(response),
            Answer::Expired => {
                proof.lock().unwrap().begin_again();
                last_id = None;
                continue;
            }
            Answer::Again => continue,
        };
        while !callers.is_stopped() {
            // A bookmark comes every few seconds. A connection that breaks is no end of the stream.
            let event = timeout(WAIT_TIMEOUT, reader.try_next()).await;
            let Ok(Some(event)) = event.expect("neither a change nor a bookmark") else { break };
            match event.name.as_str() {
                "change" => proof.lock().unwrap().add(&event.json()),
                "bookmark" => {}
                _ => {
                    // The next attempt is refused, and begins again.
                    assert_eq!(event.json()["code"], "cursor_expired", "{event:?}");
                    break;
                }
            }
            last_id = Some(event.id);
        }
    }
}

/// Keeps a copy of all sessions.
pub async fn mirror(callers: Callers, proof: Arc<Mutex<MirrorProof>>) {
    let mut after: Option<String> = None;
    while !callers.is_stopped() {
        let path = match &after {
            None => format!("{EVENTS}?snapshot=true&limit=50"),
            Some(after) => format!("{EVENTS}?after={after}&limit=200"),
        };
        match callers.call(Method::GET, &path, None).await {
            Answer::Ok(page) => {
                let mut proof = proof.lock().unwrap();
                for session in page["sessions"].as_array().into_iter().flatten() {
                    proof.add_session(session);
                }
                page["events"].as_array().unwrap().iter().for_each(|event| proof.add(event));
                if page["caughtUp"] == true {
                    proof.complete_to = page["headSeq"].as_i64().unwrap();
                }
                after = Some(page["nextCursor"].as_str().unwrap().to_owned());
            }
            Answer::Expired => {
                proof.lock().unwrap().begin_again();
                after = None;
            }
            Answer::Again => {}
        }
        if proof.lock().unwrap().complete_to > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// The members of one consumer share this.
#[derive(Clone)]
pub struct Consumer {
    callers: Callers,
    proof: Arc<Mutex<ConsumerProof>>,
    /// How often the consumer was reset. No member works during a reset.
    resets: Arc<RwLock<usize>>,
}

impl Consumer {
    /// Makes the consumer, at the beginning.
    pub async fn create(
        callers: Callers,
        filter: &Value,
        proof: Arc<Mutex<ConsumerProof>>,
    ) -> Self {
        let body = json!({ "filter": filter, "start": "0", "lease": "2s" });
        callers.ask(Method::PUT, CONSUMER, Some(&body)).await;
        Self { callers, proof, resets: Arc::default() }
    }

    /// Does the events that a member gets, one after the other.
    pub async fn work(self, member: &'static str) {
        let callers = &self.callers;
        while !callers.is_stopped() {
            let resets = self.resets.read().await;
            if !self.work_once(member).await {
                let known = *resets;
                drop(resets);
                self.reset(known).await;
            }
        }
    }

    /// Returns whether the consumer belongs to this history.
    async fn work_once(&self, member: &str) -> bool {
        let body = json!({ "member": member, "max": 200, "wait": "1s" });
        let path = format!("{CONSUMER}/fetch");
        let fetched = match self.callers.call(Method::POST, &path, Some(&body)).await {
            Answer::Ok(fetched) => fetched,
            Answer::Again => return true,
            Answer::Expired => return false,
        };
        let events = fetched["events"].as_array().unwrap();
        if events.is_empty() {
            return true;
        }
        for event in events {
            self.proof.lock().unwrap().work(event);
        }
        let cursors: Vec<&Value> = events.iter().map(|event| &event["cursor"]).collect();
        let body = json!({ "member": member, "cursors": cursors });
        let path = format!("{CONSUMER}/ack");
        match self.callers.call(Method::POST, &path, Some(&body)).await {
            Answer::Ok(done) => {
                let lost = done["lost"].as_array().unwrap();
                let mut proof = self.proof.lock().unwrap();
                let is_done = |event: &&Value| !lost.contains(&event["cursor"]);
                events.iter().filter(is_done).for_each(|event| proof.acknowledge(event));
                true
            }
            Answer::Again => true,
            Answer::Expired => false,
        }
    }

    /// Begins again with the new history, unless the other member has done this.
    async fn reset(&self, known: usize) {
        let mut resets = self.resets.write().await;
        if *resets != known {
            return;
        }
        let path = format!("{CONSUMER}/reset");
        // An attempt without an answer may have reset the consumer.
        while self.callers.ask(Method::GET, CONSUMER, None).await["expired"] == true {
            self.callers.ask(Method::POST, &path, Some(&json!({ "start": "0" }))).await;
        }
        self.proof.lock().unwrap().begin_again();
        *resets += 1;
    }
}
