//! Writers and readers that continue during faults, and record every answer.
//!
//! Each change sets a title and adds a member, both with a unique number. So a session shows the
//! changes that made it, and the database shows the changes that were done.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::harness::process::PlainClient;

const WRITERS: usize = 4;
const READERS: usize = 4;
const LISTERS: usize = 2;
/// The number of changes after which a writer begins another session.
const CHANGES: usize = 12;
/// The pause between two requests of one client. These tests are about faults, not about speed.
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

/// Running clients.
pub struct Load {
    pub shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// The state that all clients share.
pub struct Shared {
    /// The servers. Each request goes to one of them at random.
    servers: Mutex<Vec<PlainClient>>,
    /// Whether servers are killed while they handle requests.
    servers_are_killed: bool,
    /// The maximum duration of a request.
    max_response_time: Duration,
    next_change: AtomicU64,
    stop: AtomicBool,
    /// The number of waits for successes that have begun. A request belongs to the last wait that
    /// began before it.
    waits: AtomicU64,
    /// The newest version of each session that an answer has shown.
    newest: Mutex<HashMap<String, i64>>,
    /// The outcome of each change by its number.
    changes: Mutex<BTreeMap<u64, Outcome>>,
    answers: Mutex<BTreeMap<(Kind, String), usize>>,
    slowest: Mutex<Duration>,
    successes: Mutex<BTreeMap<Kind, Successes>>,
}

/// The successful requests of a kind.
#[derive(Clone, Copy, Default)]
struct Successes {
    count: usize,
    /// The newest wait to which one of the requests belongs.
    newest_wait: u64,
}

enum Answer {
    Ok(Value),
    NotDone,
    Unknown,
}

impl Load {
    /// Starts clients with the credentials of `client`. Each answer must arrive within
    /// `max_response_time`.
    pub fn start(client: &PlainClient, max_response_time: Duration) -> Self {
        Self::start_on(vec![client.clone()], false, max_response_time)
    }

    /// Like [`Self::start`], on servers that may be killed while they handle a request.
    pub fn start_on_killed(servers: &[PlainClient], max_response_time: Duration) -> Self {
        Self::start_on(servers.to_vec(), true, max_response_time)
    }

    fn start_on(
        servers: Vec<PlainClient>,
        servers_are_killed: bool,
        max_response_time: Duration,
    ) -> Self {
        let shared = Arc::new(Shared {
            servers: Mutex::new(servers),
            servers_are_killed,
            max_response_time,
            next_change: AtomicU64::new(1),
            stop: AtomicBool::new(false),
            waits: AtomicU64::default(),
            newest: Mutex::default(),
            changes: Mutex::default(),
            answers: Mutex::default(),
            slowest: Mutex::default(),
            successes: Mutex::default(),
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

    /// Waits until `count` more requests of each kind have succeeded, at least one of them begun
    /// after this call. Fails after `max_wait`. Returns the time until such a request of each kind
    /// had succeeded.
    pub async fn wait_for_successes(
        &self,
        count: usize,
        max_wait: Duration,
    ) -> BTreeMap<Kind, Duration> {
        let started_at = Instant::now();
        let wait = self.shared.waits.fetch_add(1, Ordering::SeqCst) + 1;
        let before = self.shared.successes.lock().unwrap().clone();
        let mut recovered = BTreeMap::new();
        let waiting = async {
            loop {
                assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a client has failed");
                let mut complete = true;
                for kind in KINDS {
                    let now = self.shared.successes_of(kind);
                    let before = before.get(&kind).map_or(0, |before| before.count);
                    let has_recovered = now.newest_wait >= wait;
                    if has_recovered {
                        recovered.entry(kind).or_insert_with(|| started_at.elapsed());
                    }
                    complete &= has_recovered && now.count >= before + count;
                }
                if complete {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if timeout(max_wait, waiting).await.is_err() {
            panic!("no service within {max_wait:?}: {recovered:?}, {}", self.shared.summary());
        }
        recovered
    }

    /// Stops the clients, and returns the outcome of each change.
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

    /// Replaces a server that was killed.
    pub fn replace_server(&self, index: usize, client: PlainClient) {
        self.servers.lock().unwrap()[index] = client;
    }

    fn server(&self) -> PlainClient {
        let servers = self.servers.lock().unwrap();
        servers[rand::random_range(0..servers.len())].clone()
    }

    fn successes_of(&self, kind: Kind) -> Successes {
        self.successes.lock().unwrap().get(&kind).copied().unwrap_or_default()
    }

    async fn call(&self, kind: Kind, request: reqwest::RequestBuilder) -> Answer {
        let started_at = Instant::now();
        let wait = self.waits.load(Ordering::SeqCst);
        let exchange = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let has_retry_after = response.headers().contains_key("retry-after");
            reqwest::Result::Ok((status, has_retry_after, response.json::<Value>().await?))
        };
        let response = timeout(self.max_response_time, exchange).await;
        let response = response.unwrap_or_else(|late| panic!("{kind:?}: no response: {late}"));
        let (status, has_retry_after, body) = match response {
            Err(error) if self.servers_are_killed => return self.no_response(kind, &error).await,
            response => response.unwrap_or_else(|error| panic!("{kind:?}: {error:?}")),
        };
        let elapsed = started_at.elapsed();
        let code = if kind == Kind::List { &body["code"] } else { &body["errcode"] };
        let name = format!("{status} {code} {}", body["errmsg"].as_str().unwrap_or_default());
        *self.answers.lock().unwrap().entry((kind, name)).or_default() += 1;
        self.slowest.lock().map(|mut slowest| *slowest = elapsed.max(*slowest)).unwrap();
        match status {
            200 if kind == Kind::List || *code == 0 => {
                let mut successes = self.successes.lock().unwrap();
                let successes = successes.entry(kind).or_default();
                successes.count += 1;
                successes.newest_wait = wait.max(successes.newest_wait);
                Answer::Ok(body)
            }
            503 => {
                assert!(has_retry_after, "{kind:?}: {body}");
                Answer::NotDone
            }
            504 => {
                assert!(has_retry_after, "{kind:?}: {body}");
                Answer::Unknown
            }
            _ => panic!("unexpected answer to {kind:?}: {status} {body}"),
        }
    }

    /// Records that the server was killed before it answered.
    async fn no_response(&self, kind: Kind, error: &reqwest::Error) -> Answer {
        // Only a request that found no server was certainly not executed.
        let (name, answer) = match error.is_connect() {
            true => ("no server", Answer::NotDone),
            false => ("no response", Answer::Unknown),
        };
        *self.answers.lock().unwrap().entry((kind, name.to_owned())).or_default() += 1;
        tokio::time::sleep(5 * PAUSE).await;
        answer
    }

    async fn post(&self, kind: Kind, call: &str, body: &Value) -> Answer {
        let PlainClient { base, api_key, http } = self.server();
        let url = format!("{base}/cgi/session/{call}?accessToken={api_key}");
        self.call(kind, http.post(url).body(body.to_string())).await
    }

    fn record_version(&self, session: &str, version: i64) {
        let mut newest = self.newest.lock().unwrap();
        let known = newest.entry(session.to_owned()).or_default();
        *known = version.max(*known);
    }

    fn random_session(&self) -> Option<(String, i64)> {
        let newest = self.newest.lock().unwrap();
        let index = rand::random_range(0..newest.len().max(1));
        newest.iter().nth(index).map(|(session, newest)| (session.clone(), *newest))
    }

    /// Makes a change, and records its outcome.
    async fn change(&self, kind: Kind, call: &str, body: impl FnOnce(u64) -> Value) -> Outcome {
        let number = self.next_change.fetch_add(1, Ordering::Relaxed);
        let outcome = match self.post(kind, call, &body(number)).await {
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
            // The lowest and the highest version that the session may have.
            let (mut min, mut max) = (1, 1);
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
                max += 1;
                match self.change(Kind::Update, "update", update).await {
                    Outcome::Done { version, .. } => {
                        // Earlier changes with an unknown outcome may have been done or not.
                        assert!((min + 1..=max).contains(&version), "{version}: {min}, {max}");
                        (min, max) = (version, version);
                    }
                    Outcome::NotDone => max -= 1,
                    Outcome::Unknown => {}
                }
            }
        }
    }

    async fn read(self: Arc<Self>) {
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(PAUSE).await;
            let Some((session, newest)) = self.random_session() else { continue };
            let id = session.trim_matches(['{', '}']);
            let PlainClient { base, api_key, http } = self.server();
            let url = format!("{base}/cgi/session/get?accessToken={api_key}&sessionId={id}");
            if let Answer::Ok(shown) = self.call(Kind::Read, http.get(url)).await {
                let (shown, version) = check_session(&shown);
                assert_eq!(shown, session);
                // Another server may show a change a moment later.
                let is_known = version >= newest || self.servers_are_killed;
                assert!(is_known, "{session}: {version} is shown after {newest}");
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
        let PlainClient { base, api_key, http } = self.server();
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
