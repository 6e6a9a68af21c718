//! Readers follow all changes while servers and PostgreSQL are killed, a backup is restored, and the
//! database moves to another server: no change is missing, repeated or out of order.
//!
//! After the restore the cursors of all readers belong to a history that is gone. Each reader gets an
//! error that says so, and begins again. The move keeps all cursors.

mod callers;
mod changes;
mod expected;
mod pair;
mod proof;
mod readers;

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use self::callers::{Answer, Callers};
use self::changes::{Acknowledged, Changes};
use self::expected::Expected;
use self::pair::{Kills, Pair, home_after_move, home_with_key_of, run, text};
use self::proof::{ConsumerProof, MirrorProof, StreamProof};
use super::kills::seed;
use super::system::{System, is_long};
use crate::feed::pages::model::Filter;
use crate::feed::streams::EVENTS;
use crate::harness::process::{Home, WAIT_TIMEOUT};
use crate::harness::server::database;
use crate::harness::{store, wait_until};

const BUIN: i64 = 7;
/// The account of the filter of the consumer.
const OF_CONSUMER: &str = "m1";

/// The events while the changes go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The server that numbers changes is killed.
    Leader,
    /// The other server is killed.
    Standby,
    /// PostgreSQL is killed.
    Postgres,
}

/// The faults before the restore, after it, and after the move.
fn faults(rng: &mut StdRng) -> [Vec<Fault>; 3] {
    use Fault::{Leader, Postgres, Standby};
    if !is_long() {
        return [vec![Leader, Postgres], vec![Standby, Leader], vec![Leader]];
    }
    // PostgreSQL is killed while it is embedded.
    [(20, 5), (20, 5), (10, 0)].map(|(servers, postgres)| {
        let servers = (0..servers).map(|number| if number % 2 == 0 { Leader } else { Standby });
        let mut faults: Vec<_> = servers.chain((0..postgres).map(|_| Postgres)).collect();
        faults.shuffle(rng);
        faults
    })
}

/// The least number of changes of the whole run.
fn least_changes() -> usize {
    let count = std::env::var("MUSTER_TEST_CHANGES").ok();
    let default = if is_long() { 1_000_000 } else { 3_000 };
    count.map_or(default, |count| count.parse().unwrap())
}

/// The readers, and what they have seen.
struct Readers {
    /// Each with the filter of its stream.
    streams: Vec<(Filter, Arc<Mutex<StreamProof>>)>,
    mirror: Arc<Mutex<MirrorProof>>,
    consumer: Arc<Mutex<ConsumerProof>>,
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Readers {
    /// Starts two readers of all changes, four with filters, a copy, and a consumer of two members.
    async fn start(urls: &[String; 2], key: &str, session: &str, app: &str) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let callers = Callers::new(urls.clone(), key, &stop);
        let filter = |parts: &[(&'static str, &str)]| {
            Filter(parts.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
        };
        let filters = [
            filter(&[]),
            filter(&[("owner", "b"), ("app", app)]),
            filter(&[("sessionId", session)]),
            filter(&[]),
            filter(&[("member", "m3")]),
            filter(&[("kind", "created"), ("owner", "a")]),
        ];
        let (mut streams, mut tasks) = (Vec::new(), Vec::new());
        for (number, filter) in filters.into_iter().enumerate() {
            let proof = Arc::new(Mutex::new(StreamProof::new(filter.0.is_empty())));
            let (callers, query, shared) = (callers.clone(), filter.query(), proof.clone());
            tasks.push(if number < 3 {
                tokio::spawn(readers::read_pages(callers, query, shared))
            } else {
                tokio::spawn(readers::read_stream(callers, query, shared))
            });
            streams.push((filter, proof));
        }
        let mirror = Arc::<Mutex<MirrorProof>>::default();
        tasks.push(tokio::spawn(readers::mirror(callers.clone(), mirror.clone())));
        let consumer = Arc::<Mutex<ConsumerProof>>::default();
        let selected = json!({ "member": OF_CONSUMER });
        let members = readers::Consumer::create(callers, &selected, consumer.clone()).await;
        for member in ["one", "two"] {
            tasks.push(tokio::spawn(members.clone().work(member)));
        }
        Self { streams, mirror, consumer, tasks, stop }
    }

    /// The filters of all streams and of the consumer, which is the last one.
    fn filters(&self) -> Vec<Filter> {
        let streams = self.streams.iter().map(|(filter, _)| filter.clone());
        streams.chain([Filter(vec![("member", OF_CONSUMER.to_owned())])]).collect()
    }

    /// The number of changes that each reader has seen.
    fn seen(&self) -> Vec<u64> {
        assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a reader has failed");
        let streams = self.streams.iter().map(|(_, proof)| proof.lock().unwrap().tally.count);
        let mirror = u64::try_from(self.mirror.lock().unwrap().complete_to).unwrap();
        streams.chain([mirror, self.consumer.lock().unwrap().tally.count]).collect()
    }

    /// Waits until all readers have seen the changes of the history, and checks that they have seen no
    /// other.
    async fn check(&self, expected: &Expected) {
        let mut counts: Vec<u64> = expected.tallies.iter().map(|tally| tally.count).collect();
        counts.insert(self.streams.len(), u64::try_from(expected.head).unwrap());
        wait_while_it_goes_on("all changes at all readers", async || (self.seen(), counts.clone()))
            .await;
        for ((filter, proof), tally) in self.streams.iter().zip(&expected.tallies) {
            assert_eq!(proof.lock().unwrap().tally, *tally, "{filter:?}");
        }
        assert!(counts.iter().all(|count| *count > 0), "each filter selects changes: {counts:?}");
        let consumer = self.consumer.lock().unwrap();
        assert_eq!(consumer.tally, *expected.tallies.last().unwrap());
        assert_eq!(self.mirror.lock().unwrap().table, expected.table);
        println!("seen: {counts:?}, {} events of the consumer twice", consumer.repeats);
    }

    /// How often each reader had to begin again.
    fn restarts(&self) -> Vec<usize> {
        let streams = self.streams.iter().map(|(_, proof)| proof.lock().unwrap().restarts);
        let mirror = self.mirror.lock().unwrap().restarts;
        streams.chain([mirror, self.consumer.lock().unwrap().restarts]).collect()
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// Waits until the first value is the second one. Fails if the values do not change for a time.
async fn wait_while_it_goes_on<T: PartialEq + Debug>(
    condition: &str,
    mut read: impl AsyncFnMut() -> (T, T),
) {
    let (mut last, mut changed_at) = (None, Instant::now());
    loop {
        let (now, wanted) = read().await;
        if now == wanted {
            return;
        }
        if last.as_ref() != Some(&now) {
            (last, changed_at) = (Some(now), Instant::now());
        }
        let idle = changed_at.elapsed();
        assert!(idle < WAIT_TIMEOUT, "not reached: {condition}: {last:?}, wanted {wanted:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for this number of further changes.
async fn wait_for_changes(changes: &Changes, readers: &Readers, count: usize) {
    let wanted = changes.count() + count;
    wait_while_it_goes_on("more changes", async || {
        readers.seen();
        (changes.count().min(wanted), wanted)
    })
    .await;
}

/// The sessions, the keys and the positions of the run.
struct Run {
    rng: StdRng,
    keys: [String; 2],
    shared: Vec<String>,
    kills: Kills,
    readers: Readers,
    /// The least version that each session must have.
    acknowledged: Acknowledged,
    written: usize,
}

impl Run {
    fn start_changes(&mut self, pair: &Pair) -> Changes {
        Changes::start(&pair.urls(), &self.keys, &self.shared, self.rng.random())
    }

    /// Makes changes, with the faults evenly among them.
    async fn disturb(
        &mut self,
        pair: &mut Pair,
        changes: &Changes,
        faults: &[Fault],
        count: usize,
    ) {
        for fault in faults {
            wait_for_changes(changes, &self.readers, count / faults.len()).await;
            let killed = match fault {
                Fault::Leader => Some(pair.kill_leader(&mut self.kills).await),
                Fault::Standby => Some(pair.kill_standby(&mut self.kills).await),
                Fault::Postgres => {
                    pair.kill_postgres(&mut self.kills);
                    None
                }
            };
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..200))).await;
            if let Some(killed) = killed {
                pair.start_again(killed);
            }
        }
        wait_for_changes(changes, &self.readers, count / 10).await;
    }

    /// Ends the changes, and checks that every reader has seen all of them.
    async fn finish(&mut self, pair: &Pair, changes: Changes) -> Expected {
        self.written += changes.count();
        self.acknowledged.extend(changes.stop().await);
        let mut connection = pair.connect().await;
        wait_while_it_goes_on("numbers for all changes", async || {
            (store::count_waiting(&mut connection).await, 0)
        })
        .await;
        let expected = Expected::read(&mut connection, BUIN, &self.readers.filters()).await;
        for (session, version) in &self.acknowledged {
            let found = expected.table.get(session);
            assert!(found >= Some(version), "{session} {version} was acknowledged: {found:?}");
        }
        self.readers.check(&expected).await;
        expected
    }
}

/// Makes two apps and two sessions. Returns the keys, the sessions, and the id of the second app.
async fn prepare(pair: &Pair) -> ([String; 2], Vec<String>, String) {
    let home = &pair.home;
    let keys = ["first", "second"].map(|app| {
        let permissions = "sessions:read,sessions:write";
        let buin = BUIN.to_string();
        let app = ["--buin", buin.as_str(), "--app-id", app];
        home.json(&[&["app", "create"][..], &app, &["--permissions", permissions]].concat());
        let key = home.json(&[&["key", "create"][..], &app].concat());
        key["key"].as_str().unwrap().to_owned()
    });
    let callers = Callers::new(pair.urls(), &keys[0], &Arc::default());
    let mut shared = Vec::new();
    for _ in 0..2 {
        let body = json!({ "operator": "a", "title": "shared", "member": ["a", "b", "c"] });
        let created = callers.ask(Method::POST, "/v1/sessions", Some(&body)).await;
        shared.push(created["sessionId"].as_str().unwrap().to_owned());
    }
    (keys, shared, "second".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_miss_and_repeat_nothing_through_kills_a_restore_and_a_move() {
    let _exclusive = System::lock_fault_tests().await;
    let (seed, started_at) = (seed(), Instant::now());
    println!("MUSTER_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let [before, after, moved] = faults(&mut rng);
    let mut pair = Pair::start(Home::with_database());
    let (keys, shared, app) = prepare(&pair).await;
    let readers = Readers::start(&pair.urls(), &keys[0], &shared[0], &app).await;
    let acknowledged = Acknowledged::new();
    let kills = Kills::default();
    let mut run_state = Run { rng, keys, shared, kills, readers, acknowledged, written: 0 };
    let part = least_changes() / 10;

    let changes = run_state.start_changes(&pair);
    run_state.disturb(&mut pair, &changes, &before, 4 * part).await;
    let callers = Callers::new(pair.urls(), &run_state.keys[0], &Arc::default());
    let early = callers.ask(Method::GET, &format!("{EVENTS}?after=0&limit=5"), None).await;
    let early = format!("{EVENTS}?after={}", early["nextCursor"].as_str().unwrap());
    // The backup holds the changes that were acknowledged before it. The later changes are lost.
    let in_backup = changes.acknowledged();
    let backup = pair.home.parent.join("backup");
    run(&pair.home, &["backup", text(&backup)]);
    wait_for_changes(&changes, &run_state.readers, part).await;
    let lost = run_state.finish(&pair, changes).await;
    let epoch = store::epoch(&mut pair.connect().await).await;

    let (restored, _first) = pair.replace(|home| {
        let new = home_with_key_of(home);
        run(&new, &["restore", text(&backup)]);
        (new, None)
    });
    pair = restored;
    assert_ne!(store::epoch(&mut pair.connect().await).await, epoch);
    // The position exists in the new history, too. Its later changes are others.
    wait_until("an answer to an old cursor", async || {
        match callers.call(Method::GET, &early, None).await {
            Answer::Ok(page) => panic!("{page}"),
            Answer::Expired => true,
            Answer::Again => false,
        }
    })
    .await;
    run_state.acknowledged = in_backup;
    let changes = run_state.start_changes(&pair);
    run_state.disturb(&mut pair, &changes, &after, 3 * part).await;
    let second = run_state.finish(&pair, changes).await;
    let epoch = store::epoch(&mut pair.connect().await).await;
    let cursor = callers.ask(Method::GET, EVENTS, None).await["nextCursor"].clone();

    let target = database().await;
    let (moved_pair, _second) = pair.replace(|home| {
        run(home, &["move-to", &store::url(&target.options)]);
        (home_after_move(home, &target), Some(target))
    });
    pair = moved_pair;
    assert_eq!(store::epoch(&mut pair.connect().await).await, epoch);
    let changes = run_state.start_changes(&pair);
    run_state.disturb(&mut pair, &changes, &moved, 2 * part).await;
    let end = run_state.finish(&pair, changes).await;
    let path = format!("{EVENTS}?after={}&limit=1", cursor.as_str().unwrap());
    let next: Value = callers.ask(Method::GET, &path, None).await;
    assert_eq!(next["events"][0]["seq"], second.head + 1, "{next}");

    let Run { kills, readers, written, .. } = run_state;
    // Each reader began again once: after the restore.
    assert_eq!(readers.restarts(), vec![1; readers.streams.len() + 2]);
    readers.stop().await;
    println!(
        "{written} acknowledged changes, {} and {} in the two histories, {kills:?}, {:?}",
        lost.head,
        end.head,
        started_at.elapsed()
    );
    let expected = if is_long() { (50, 25, 10) } else { (4, 3, 1) };
    assert_eq!((kills.servers, kills.leaders, kills.postgres), expected);
}
