//! Writers and readers that continue during faults, and remember every answer.
//!
//! Each change sets a title and adds a member, both with a unique number. So a session shows the
//! changes that made it, and the database shows the changes that were done.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::process::{PATIENCE, Plain};

const WRITERS: usize = 4;
const READERS: usize = 4;
const LISTERS: usize = 2;
/// The number of changes after which a writer begins another session.
const CHANGES: usize = 12;
/// The pause between two requests of one caller. These tests are about faults, not about speed.
const PAUSE: Duration = Duration::from_millis(4);

/// The outcome of a change according to its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The change is this version of this session.
    Done { session: String, version: i64 },
    /// The change was not done.
    NotDone,
    /// The change may have been done or not.
    Unknown,
}

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Create,
    Update,
    Read,
    List,
}

pub const KINDS: [Kind; 4] = [Kind::Create, Kind::Update, Kind::Read, Kind::List];

/// Running callers.
pub struct Load {
    pub shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// The state that all callers share.
pub struct Shared {
    caller: Plain,
    /// The maximum duration of a request.
    within: Duration,
    next: AtomicU64,
    stop: AtomicBool,
    /// The newest version of each session that an answer has shown.
    newest: Mutex<HashMap<String, i64>>,
    /// The outcome of each change by its number.
    changes: Mutex<BTreeMap<u64, Outcome>>,
    answers: Mutex<BTreeMap<(Kind, String), usize>>,
    slowest: Mutex<Duration>,
    /// The start of the last successful request of each kind, and the number of successes.
    succeeded: Mutex<BTreeMap<Kind, (Instant, usize)>>,
}

enum Answer {
    Ok(Value),
    NotDone,
    Unknown,
}

impl Load {
    /// Starts callers with the credentials of `caller`. Each answer must arrive `within` this time.
    pub fn start(caller: &Plain, within: Duration) -> Self {
        let shared = Arc::new(Shared {
            caller: caller.clone(),
            within,
            next: AtomicU64::new(1),
            stop: AtomicBool::new(false),
            newest: Mutex::default(),
            changes: Mutex::default(),
            answers: Mutex::default(),
            slowest: Mutex::default(),
            succeeded: Mutex::default(),
        });
        let mut tasks = Vec::new();
        for _ in 0..WRITERS {
            tasks.push(tokio::spawn(shared.clone().write()));
        }
        for _ in 0..READERS {
            tasks.push(tokio::spawn(shared.clone().read()));
        }
        for _ in 0..LISTERS {
            tasks.push(tokio::spawn(shared.clone().list()));
        }
        Self { shared, tasks }
    }

    /// Waits for `more` successes of each kind, the last of them begun from now on.
    pub async fn wait_for_progress(&self, more: usize) {
        self.wait_for_successes(Instant::now(), more).await;
    }

    /// Waits for `more` successes of each kind, the last of them begun after `after`. Returns the
    /// time from `after` to the first success of each kind.
    pub async fn wait_for_successes(&self, after: Instant, more: usize) -> Vec<(Kind, Duration)> {
        let before: BTreeMap<Kind, usize> = self
            .shared
            .succeeded
            .lock()
            .unwrap()
            .iter()
            .map(|(kind, (_, count))| (*kind, *count))
            .collect();
        let mut first = BTreeMap::new();
        loop {
            let mut done = true;
            for kind in KINDS {
                let now = self.shared.succeeded.lock().unwrap().get(&kind).copied();
                let began = now.is_some_and(|(began, _)| began >= after);
                if began {
                    first.entry(kind).or_insert_with(|| after.elapsed());
                }
                let count = now.map_or(0, |(_, count)| count);
                done &= began && count >= before.get(&kind).copied().unwrap_or_default() + more;
            }
            if done {
                return first.into_iter().collect();
            }
            assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a caller has failed");
            assert!(after.elapsed() < PATIENCE, "no service: {first:?}, {}", self.shared.summary());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Stops the callers, and returns the outcome of each change.
    pub async fn stop(self) -> BTreeMap<u64, Outcome> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut *self.shared.changes.lock().unwrap())
    }
}

impl Shared {
    /// The number of answers of each kind, and the longest duration.
    pub fn summary(&self) -> String {
        let answers = self.answers.lock().unwrap().clone();
        let slowest = *self.slowest.lock().unwrap();
        format!("{answers:?}, the slowest after {slowest:?}")
    }

    async fn call(&self, kind: Kind, request: reqwest::RequestBuilder) -> Answer {
        let began = Instant::now();
        let response = request.send().await.unwrap_or_else(|error| panic!("{kind:?}: {error:?}"));
        let status = response.status().as_u16();
        let retry = response.headers().contains_key("retry-after");
        let body: Value = response.json().await.unwrap();
        let elapsed = began.elapsed();
        assert!(elapsed <= self.within, "{kind:?} took {elapsed:?}: {body}");
        let code = if kind == Kind::List { &body["code"] } else { &body["errcode"] };
        let name = format!("{status} {code} {}", body["errmsg"].as_str().unwrap_or_default());
        *self.answers.lock().unwrap().entry((kind, name)).or_default() += 1;
        self.slowest.lock().map(|mut slowest| *slowest = elapsed.max(*slowest)).unwrap();
        match status {
            200 if kind == Kind::List || *code == 0 => {
                let mut succeeded = self.succeeded.lock().unwrap();
                let last = succeeded.entry(kind).or_insert((began, 0));
                *last = (began.max(last.0), last.1 + 1);
                Answer::Ok(body)
            }
            503 => {
                assert!(retry, "{kind:?}: {body}");
                Answer::NotDone
            }
            504 => {
                assert!(retry, "{kind:?}: {body}");
                Answer::Unknown
            }
            _ => panic!("unexpected answer to {kind:?}: {status} {body}"),
        }
    }

    async fn ask(&self, kind: Kind, call: &str, body: &Value) -> Answer {
        let Plain { base, api_key, http } = &self.caller;
        let url = format!("{base}/cgi/session/{call}?accessToken={api_key}");
        self.call(kind, http.post(url).body(body.to_string())).await
    }

    fn record_version(&self, session: &str, version: i64) {
        let mut newest = self.newest.lock().unwrap();
        let known = newest.entry(session.to_owned()).or_default();
        *known = version.max(*known);
    }

    fn any_session(&self) -> Option<(String, i64)> {
        let newest = self.newest.lock().unwrap();
        let chance = rand::random_range(0..newest.len().max(1));
        newest.iter().nth(chance).map(|(session, newest)| (session.clone(), *newest))
    }

    /// Makes a change, and remembers its outcome.
    async fn change(&self, kind: Kind, call: &str, body: impl FnOnce(u64) -> Value) -> Outcome {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let outcome = match self.ask(kind, call, &body(number)).await {
            Answer::Ok(session) => {
                assert_eq!(session["title"], format!("t{number}"), "{session}");
                let (session, version) = check_session(&session);
                self.record_version(&session, version);
                Outcome::Done { session, version }
            }
            Answer::NotDone => Outcome::NotDone,
            Answer::Unknown => Outcome::Unknown,
        };
        self.changes.lock().unwrap().insert(number, outcome.clone());
        outcome
    }

    async fn write(self: Arc<Self>) {
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(PAUSE).await;
            let create = |number| json!({ "title": format!("t{number}"), "creator": "a", "member": ["b", "c"] });
            let Outcome::Done { session, version } =
                self.change(Kind::Create, "create", create).await
            else {
                continue;
            };
            assert_eq!(version, 1);
            let (mut least, mut most) = (1, 1);
            for _ in 0..CHANGES {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
                let update = |number| {
                    json!({
                        "sessionId": session, "opUser": "a",
                        "title": format!("t{number}"), "addMember": [format!("m{number}")],
                    })
                };
                most += 1;
                match self.change(Kind::Update, "update", update).await {
                    Outcome::Done { version, .. } => {
                        // Earlier changes with an unknown outcome may have been done or not.
                        assert!(
                            (least + 1..=most).contains(&version),
                            "{version}: {least}, {most}"
                        );
                        (least, most) = (version, version);
                    }
                    Outcome::NotDone => most -= 1,
                    Outcome::Unknown => {}
                }
            }
        }
    }

    async fn read(self: Arc<Self>) {
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(PAUSE).await;
            let Some((session, newest)) = self.any_session() else { continue };
            let id = session.trim_matches(['{', '}']);
            let Plain { base, api_key, http } = &self.caller;
            let url = format!("{base}/cgi/session/get?accessToken={api_key}&sessionId={id}");
            if let Answer::Ok(shown) = self.call(Kind::Read, http.get(url)).await {
                let (shown, version) = check_session(&shown);
                assert_eq!(shown, session);
                assert!(version >= newest, "{session}: {version} is shown after {newest}");
                self.record_version(&session, version);
            }
        }
    }

    /// Reads lists, which never share a statement with other requests.
    async fn list(self: Arc<Self>) {
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(5 * PAUSE).await;
            let _ = self.call(Kind::List, self.request_list()).await;
        }
    }

    fn request_list(&self) -> reqwest::RequestBuilder {
        let Plain { base, api_key, http } = &self.caller;
        http.get(format!("{base}/v1/sessions?limit=3")).bearer_auth(api_key)
    }
}

/// Checks that a session shows exactly the changes up to its version. Returns its id and version.
pub fn check_session(session: &Value) -> (String, i64) {
    let version = session["version"].as_i64().unwrap();
    let members: Vec<&str> = session["member"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member.as_str().unwrap())
        .collect();
    assert_eq!(members[..3], ["a", "b", "c"], "{session}");
    let added: Vec<u64> = members[3..].iter().map(|member| member[1..].parse().unwrap()).collect();
    assert!(added.is_sorted(), "{session}");
    assert_eq!(i64::try_from(added.len()).unwrap() + 1, version, "{session}");
    if let Some(last) = added.last() {
        assert_eq!(session["title"], format!("t{last}"), "{session}");
    }
    (session["sessionId"].as_str().unwrap().to_owned(), version)
}
