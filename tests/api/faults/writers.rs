//! Clients that write without a pause while servers stop and start, and record each request without an
//! answer.
//!
//! Each change sets a title with a unique number, so the database shows which changes were done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::process::WAIT_TIMEOUT;
use crate::harness::store::{self, PgConnection};
use crate::harness::wait_until;

/// The number of changes after which a client begins another session.
const CHANGES: usize = 12;
/// The pause after a request that reached no server.
const PAUSE: Duration = Duration::from_millis(5);

/// Running clients.
pub struct Writers {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    api_key: String,
    next_change: AtomicU64,
    stop: AtomicBool,
    answered: AtomicUsize,
    outcomes: Mutex<Outcomes>,
}

/// The numbers of the changes, by their outcome.
#[derive(Debug, Default)]
pub struct Outcomes {
    pub done: BTreeSet<u64>,
    /// The answer says that nothing was done.
    pub not_done: BTreeMap<u64, String>,
    /// The connection ended without an answer.
    pub cut_off: BTreeMap<u64, String>,
    /// No connection could be opened.
    pub not_sent: BTreeMap<u64, String>,
}

impl Writers {
    /// Starts clients that keep their connections. The clients share the servers of `urls` equally.
    pub fn start(
        count: usize,
        urls: &[String],
        api_key: &str,
        client: impl Fn() -> reqwest::Client,
    ) -> Self {
        let shared = Arc::new(Shared {
            api_key: api_key.to_owned(),
            next_change: AtomicU64::new(1),
            stop: AtomicBool::default(),
            answered: AtomicUsize::default(),
            outcomes: Mutex::default(),
        });
        let start = |index: usize| {
            let url = urls[index % urls.len()].clone();
            tokio::spawn(shared.clone().write(client(), url))
        };
        let tasks = (0..count).map(start).collect();
        Self { shared, tasks }
    }

    /// Waits for this number of further answers.
    pub async fn wait_for_answers(&self, count: usize) {
        let before = self.shared.answered.load(Ordering::SeqCst);
        wait_until("answers", async || {
            assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a client has failed");
            self.shared.answered.load(Ordering::SeqCst) >= before + count
        })
        .await;
    }

    /// The number of requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.next_change.load(Ordering::SeqCst) - 1
    }

    /// Stops the clients.
    pub async fn stop(self) -> Outcomes {
        self.shared.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut *self.shared.outcomes.lock().unwrap())
    }
}

impl Shared {
    async fn write(self: Arc<Self>, client: reqwest::Client, url: String) {
        while !self.stop.load(Ordering::SeqCst) {
            let create = |title| json!({ "title": title, "creator": "a", "member": ["b", "c"] });
            let Some(session) = self.change(&client, &url, "create", create).await else {
                continue;
            };
            for _ in 0..CHANGES {
                let id = &session["sessionId"];
                let update = |title| json!({ "sessionId": id, "opUser": "a", "title": title });
                if self.stop.load(Ordering::SeqCst)
                    || self.change(&client, &url, "update", update).await.is_none()
                {
                    break;
                }
            }
        }
    }

    /// Makes a change. Returns the session if the change was done.
    async fn change(
        &self,
        client: &reqwest::Client,
        url: &str,
        call: &str,
        body: impl FnOnce(String) -> Value,
    ) -> Option<Value> {
        let number = self.next_change.fetch_add(1, Ordering::SeqCst);
        let url = format!("{url}/cgi/session/{call}?accessToken={}", self.api_key);
        let exchange = async {
            let response =
                client.post(url).body(body(format!("t{number}")).to_string()).send().await?;
            reqwest::Result::Ok((response.status().as_u16(), response.text().await?))
        };
        let exchanged = tokio::time::timeout(WAIT_TIMEOUT, exchange).await;
        let exchanged = exchanged.unwrap_or_else(|late| panic!("{call}: no response: {late}"));
        let mut pause = false;
        let session = {
            let mut outcomes = self.outcomes.lock().unwrap();
            match exchanged {
                Ok((200, text)) => {
                    let session: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(session["errcode"], 0, "{session}");
                    outcomes.done.insert(number);
                    Some(session)
                }
                Ok((503, text)) => {
                    outcomes.not_done.insert(number, text);
                    None
                }
                Ok((status, text)) => {
                    outcomes.cut_off.insert(number, format!("{status} {text}"));
                    None
                }
                Err(error) => {
                    pause = true;
                    let text = format!("{error:?}");
                    match error.is_connect() {
                        true => outcomes.not_sent.insert(number, text),
                        false => outcomes.cut_off.insert(number, text),
                    };
                    None
                }
            }
        };
        if session.is_some() {
            self.answered.fetch_add(1, Ordering::SeqCst);
        }
        if pause {
            tokio::time::sleep(PAUSE).await;
        }
        session
    }
}

impl Outcomes {
    /// Checks that each acknowledged change was done once, and no other change was done.
    pub async fn check(&self, connection: &mut PgConnection) {
        let mut times_done = BTreeMap::<u64, usize>::new();
        for (_, _, title) in store::numbered_titles(connection).await {
            *times_done.entry(title[1..].parse().unwrap()).or_default() += 1;
        }
        for (number, times) in &times_done {
            let without_answer = self.cut_off.get(number).or(self.not_done.get(number));
            let without_answer = without_answer.or(self.not_sent.get(number));
            assert_eq!(without_answer, None, "change {number} was done");
            assert_eq!(*times, 1, "change {number} was done more than once");
        }
        assert_eq!(times_done.into_keys().collect::<BTreeSet<_>>(), self.done);
    }

    /// Checks that each request was answered.
    pub fn assert_all_answered(&self) {
        assert_eq!(self.cut_off, BTreeMap::new());
        assert_eq!(self.not_done, BTreeMap::new());
        assert_eq!(self.not_sent, BTreeMap::new());
    }
}
