//! Writers that change sessions through both servers, many in one request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::callers::{Answer, Callers};
use super::expected::ACCOUNTS;
use crate::faults::system::is_long;

const WRITERS: usize = 4;
/// The number of changes in a request.
fn batch() -> usize {
    if is_long() { 25 } else { 8 }
}

/// The pause between two requests of a writer. The short form is about faults, not about many changes.
fn pause() -> Duration {
    if is_long() { Duration::ZERO } else { Duration::from_millis(60) }
}

/// The newest version of each session that an answer has shown.
pub type Acknowledged = HashMap<String, i64>;

/// Running writers.
pub struct Changes {
    shared: Arc<WriteTally>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct WriteTally {
    acknowledged: Mutex<Acknowledged>,
    count: AtomicUsize,
}

impl Changes {
    /// Starts writers with the keys of two apps. All of them change the sessions `shared`, too.
    pub fn start(urls: &[String; 2], keys: &[String; 2], shared: &[String], seed: u64) -> Self {
        let (written, stop) = (Arc::<WriteTally>::default(), Arc::<AtomicBool>::default());
        let start = |number: usize| {
            let callers = Callers::new(urls.clone(), &keys[number % 2], &stop);
            let rng = StdRng::seed_from_u64(seed + number as u64);
            tokio::spawn(written.clone().write(callers, rng, shared.to_vec()))
        };
        let tasks = (0..WRITERS).map(start).collect();
        Self { shared: written, stop, tasks }
    }

    /// The number of acknowledged changes.
    pub fn count(&self) -> usize {
        assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a writer has failed");
        self.shared.count.load(Ordering::SeqCst)
    }

    /// The acknowledged events so far.
    pub fn acknowledged(&self) -> Acknowledged {
        self.shared.acknowledged.lock().unwrap().clone()
    }

    /// Stops the writers, and returns what was acknowledged.
    pub async fn stop(self) -> Acknowledged {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.shared.acknowledged.lock().unwrap().clone()
    }
}

/// A change of a random session, or a new one.
fn item(rng: &mut StdRng, ids: &[String]) -> Value {
    let title = format!("t{}", rng.random::<u32>());
    let account = *ACCOUNTS.choose(rng).unwrap();
    let Some(id) = ids.choose(rng).filter(|_| rng.random_bool(0.9)) else {
        let member = ["a", "b", account];
        return json!({ "create": { "operator": "a", "title": title, "member": member } });
    };
    let operator = *["a", "b"].choose(rng).unwrap();
    let mut fields = json!({ "sessionId": id, "operator": operator, "title": title });
    match rng.random_range(0..10) {
        0..3 => fields["addMember"] = json!([account]),
        3..6 => fields["delMember"] = json!([account]),
        // The other one is the owner in half of the cases, and the change is refused.
        6 => fields["owner"] = json!(["a", "b"].choose(rng).unwrap()),
        _ => {}
    }
    json!({ "update": fields })
}

impl WriteTally {
    async fn write(self: Arc<Self>, callers: Callers, mut rng: StdRng, shared: Vec<String>) {
        let mut ids = shared;
        while !callers.is_stopped() {
            let items: Vec<Value> = (0..batch()).map(|_| item(&mut rng, &ids)).collect();
            let body = json!({ "items": items });
            let answer = callers.call(Method::POST, "/v1/sessions/batch", Some(&body)).await;
            if let Answer::Ok(answer) = answer {
                self.record(&answer, &mut ids);
            }
            // Old sessions are left alone, so that there are many.
            if ids.len() > 400 {
                ids.drain(2..200);
            }
            tokio::time::sleep(pause()).await;
        }
    }

    fn record(&self, answer: &Value, ids: &mut Vec<String>) {
        let mut acknowledged = self.acknowledged.lock().unwrap();
        for item in answer["items"].as_array().unwrap() {
            let status = item["status"].as_u64().unwrap();
            // The rules of sessions refuse some changes.
            let is_refused = [400, 403, 409, 422, 503, 504].contains(&status);
            assert!(status == 200 || status == 201 || is_refused, "{item}");
            if is_refused {
                continue;
            }
            let session = &item["session"];
            let id = session["sessionId"].as_str().unwrap().to_owned();
            if status == 201 {
                ids.push(id.clone());
            }
            let known = acknowledged.entry(id).or_default();
            *known = session["version"].as_i64().unwrap().max(*known);
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }
}
