//! Writers and readers that go on whatever happens, and remember what they were told.
//!
//! Each change brings a title and a member with a number that no other has: so a session shows which
//! changes made it, and the database shows which of all changes there are.

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
/// After so many changes a writer begins another session.
const CHANGES: usize = 12;
/// Between two requests of one caller. This is about faults, not about speed.
const PAUSE: Duration = Duration::from_millis(4);

/// What was told about a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is this version of this session.
    Done { session: String, version: i64 },
    /// Nothing was done.
    NotDone,
    /// Nobody knows.
    Unknown,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Create,
    Update,
    Read,
    List,
}

pub const KINDS: [Kind; 4] = [Kind::Create, Kind::Update, Kind::Read, Kind::List];

/// Callers at work.
pub struct Load {
    pub seen: Arc<Seen>,
    tasks: Vec<JoinHandle<()>>,
}

/// What they have seen.
pub struct Seen {
    caller: Plain,
    /// By when an answer must be there.
    within: Duration,
    next: AtomicU64,
    stop: AtomicBool,
    /// Of each session the newest version that somebody has seen or was told.
    newest: Mutex<HashMap<String, i64>>,
    /// By number.
    changes: Mutex<BTreeMap<u64, Told>>,
    answers: Mutex<BTreeMap<(Kind, String), usize>>,
    slowest: Mutex<Duration>,
    /// When the last request began that succeeded, and how many did.
    succeeded: Mutex<BTreeMap<Kind, (Instant, usize)>>,
}

enum Answer {
    Ok(Value),
    NotDone,
    Unknown,
}

impl Load {
    /// Calls as `caller`; every answer must come `within`.
    pub fn start(caller: &Plain, within: Duration) -> Self {
        let seen = Arc::new(Seen {
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
            tasks.push(tokio::spawn(seen.clone().write()));
        }
        for _ in 0..READERS {
            tasks.push(tokio::spawn(seen.clone().read()));
        }
        for _ in 0..LISTERS {
            tasks.push(tokio::spawn(seen.clone().list()));
        }
        Self { seen, tasks }
    }

    /// Waits until more of everything succeeds that begins from now on.
    pub async fn goes_on(&self, more: usize) {
        self.succeeds(Instant::now(), more).await;
    }

    /// Waits until so many more of each kind succeed that began after `after`; gives how long after
    /// that the first of each kind was answered.
    pub async fn succeeds(&self, after: Instant, more: usize) -> Vec<(Kind, Duration)> {
        let before: BTreeMap<Kind, usize> = self
            .seen
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
                let now = self.seen.succeeded.lock().unwrap().get(&kind).copied();
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
            assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a caller gave up");
            assert!(after.elapsed() < PATIENCE, "no service: {first:?}, {}", self.seen.summary());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Stops, and gives what was told of each change.
    pub async fn stop(self) -> BTreeMap<u64, Told> {
        self.seen.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut *self.seen.changes.lock().unwrap())
    }
}

impl Seen {
    /// How often what was answered.
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
        let took = began.elapsed();
        assert!(took <= self.within, "{kind:?} took {took:?}: {body}");
        let told = if kind == Kind::List { &body["code"] } else { &body["errcode"] };
        let name = format!("{status} {told} {}", body["errmsg"].as_str().unwrap_or_default());
        *self.answers.lock().unwrap().entry((kind, name)).or_default() += 1;
        self.slowest.lock().map(|mut slowest| *slowest = took.max(*slowest)).unwrap();
        match status {
            200 if kind == Kind::List || *told == 0 => {
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
            _ => panic!("{kind:?} must not be answered so: {status} {body}"),
        }
    }

    async fn ask(&self, kind: Kind, call: &str, body: &Value) -> Answer {
        let Plain { base, api_key, http } = &self.caller;
        let url = format!("{base}/cgi/session/{call}?accessToken={api_key}");
        self.call(kind, http.post(url).body(body.to_string())).await
    }

    fn has_seen(&self, session: &str, version: i64) {
        let mut newest = self.newest.lock().unwrap();
        let known = newest.entry(session.to_owned()).or_default();
        *known = version.max(*known);
    }

    fn any_session(&self) -> Option<(String, i64)> {
        let newest = self.newest.lock().unwrap();
        let chance = rand::random_range(0..newest.len().max(1));
        newest.iter().nth(chance).map(|(session, newest)| (session.clone(), *newest))
    }

    /// Makes a change, and remembers what was told of it.
    async fn change(&self, kind: Kind, call: &str, body: impl FnOnce(u64) -> Value) -> Told {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let told = match self.ask(kind, call, &body(number)).await {
            Answer::Ok(session) => {
                assert_eq!(session["title"], format!("t{number}"), "{session}");
                let (session, version) = whole(&session);
                self.has_seen(&session, version);
                Told::Done { session, version }
            }
            Answer::NotDone => Told::NotDone,
            Answer::Unknown => Told::Unknown,
        };
        self.changes.lock().unwrap().insert(number, told.clone());
        told
    }

    async fn write(self: Arc<Self>) {
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(PAUSE).await;
            let create = |number| json!({ "title": format!("t{number}"), "creator": "a", "member": ["b", "c"] });
            let Told::Done { session, version } = self.change(Kind::Create, "create", create).await
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
                    Told::Done { version, .. } => {
                        // Each before it of which nobody knew was done or not.
                        assert!(
                            (least + 1..=most).contains(&version),
                            "{version}: {least}, {most}"
                        );
                        (least, most) = (version, version);
                    }
                    Told::NotDone => most -= 1,
                    Told::Unknown => {}
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
                let (shown, version) = whole(&shown);
                assert_eq!(shown, session);
                assert!(version >= newest, "{session}: {version} is shown after {newest}");
                self.has_seen(&session, version);
            }
        }
    }

    /// Asks for what does not share a statement.
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

/// Checks that a session is what its changes made it, and no mixture: its id and version.
pub fn whole(session: &Value) -> (String, i64) {
    let version = session["version"].as_i64().unwrap();
    let members: Vec<&str> = session["member"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member.as_str().unwrap())
        .collect();
    assert_eq!(members[..3], ["a", "b", "c"], "{session}");
    let came: Vec<u64> = members[3..].iter().map(|member| member[1..].parse().unwrap()).collect();
    assert!(came.is_sorted(), "{session}");
    assert_eq!(i64::try_from(came.len()).unwrap() + 1, version, "{session}");
    if let Some(last) = came.last() {
        assert_eq!(session["title"], format!("t{last}"), "{session}");
    }
    (session["sessionId"].as_str().unwrap().to_owned(), version)
}
