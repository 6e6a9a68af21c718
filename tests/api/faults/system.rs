//! The system under test: a database, two servers, callers and a receiver of callbacks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

use super::failover;
use super::load::{Load, Outcome, check_session};
use super::postgres::Postgres;
use crate::callbacks::receiver::Receiver;
use crate::harness::process::{
    Home, PlainClient, Server, WAIT_TIMEOUT, children, is_running, wait_for,
};
use crate::harness::proxy::Proxy;
use crate::harness::store::{PgConnectOptions, PgConnection};
use crate::harness::{store, wait_until, wait_until_within};

/// The maximum recovery time on a machine that is not busy.
const RECOVERY_TIME: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_CONNECTIONS: usize = 6;
/// The maximum number of connections of two servers with two threads. Each server has the pool, and those of
/// `OWN_CONNECTIONS` in `src/postgres/embedded/lifecycle.rs` for its parts: three for each of three sets of
/// queues; one each for notifications, the cache and the numbers of changes; two for callbacks. It has no
/// streams, and those for a short time have ended.
const CONNECTIONS: usize = 2 * (9 + 3 + 2 + MAX_CONNECTIONS);
const TOKEN: &str = "the callbacks' token";

/// The fault tests run one at a time, so that they do not disturb each other.
static EXCLUSIVE: Mutex<()> = Mutex::const_new(());

/// The duration of a fault. The default is short, because these tests run for every commit.
pub fn fault_duration() -> Duration {
    if is_long() { Duration::from_secs(12) } else { Duration::from_millis(1_500) }
}

/// The number of repetitions of each fault.
pub fn repetitions() -> usize {
    if is_long() { 5 } else { 1 }
}

/// The maximum time until the service works again. The short form runs next to all other tests, so
/// its limit is generous.
fn max_recovery_time() -> Duration {
    if is_long() { RECOVERY_TIME } else { WAIT_TIMEOUT }
}

/// The maximum duration of a request, generous in the short form for the same reason.
fn max_response_time() -> Duration {
    if is_long() { REQUEST_TIMEOUT + Duration::from_secs(1) } else { 10 * REQUEST_TIMEOUT }
}

pub fn is_long() -> bool {
    std::env::var("MUSTER_TEST_FAULTS").is_ok_and(|mode| mode == "long")
}

pub struct System {
    /// The load. It calls the first server only, unless servers are killed.
    pub load: Load,
    pub servers: Vec<Server>,
    client: PlainClient,
    second_client: PlainClient,
    receiver: Receiver,
    pub proxy: Option<Proxy>,
    /// The external PostgreSQL, or `None` if PostgreSQL is embedded.
    pub postgres: Option<Postgres>,
    pub standby: Option<Postgres>,
    pub home: Home,
    _exclusive: MutexGuard<'static, ()>,
}

/// The kind of database, and the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    Embedded,
    External,
    BehindProxy,
    /// A primary with a synchronous standby, in the configuration of the manual.
    Replicated,
}

impl System {
    pub async fn start(database: Database) -> Self {
        Self::start_in(database, Home::with_database(), EXCLUSIVE.lock().await).await
    }

    /// Like [`Self::start`], with a load on both servers, which may be killed.
    pub async fn start_for_kills() -> Self {
        let exclusive = EXCLUSIVE.lock().await;
        Self::start_with(Database::Embedded, Home::with_database(), exclusive, true).await
    }

    /// Like [`Self::start`], on the files of `home`.
    pub async fn start_in(
        database: Database,
        home: Home,
        exclusive: MutexGuard<'static, ()>,
    ) -> Self {
        Self::start_with(database, home, exclusive, false).await
    }

    async fn start_with(
        database: Database,
        mut home: Home,
        exclusive: MutexGuard<'static, ()>,
        servers_are_killed: bool,
    ) -> Self {
        let seconds = |duration: Duration| duration.as_secs().to_string();
        home.set("MUSTER__SERVER__REQUEST_TIMEOUT", &seconds(REQUEST_TIMEOUT))
            .set("MUSTER__DATABASE__STATEMENT_TIMEOUT", &seconds(STATEMENT_TIMEOUT))
            // A crash of PostgreSQL may lose the result of a callback. The callback is sent again
            // after its lease, which is this timeout and 30 s.
            .set("MUSTER__DELIVERY__ATTEMPT_TIMEOUT", "1s")
            .set("MUSTER__DELIVERY__CONNECT_TIMEOUT", "1s")
            .set("MUSTER__DATABASE__MAX_CONNECTIONS", &MAX_CONNECTIONS.to_string());
        let (mut postgres, mut standby, mut proxy) = (None, None, None);
        if database != Database::Embedded {
            let started = Postgres::start(&home).await;
            let mut options = started.options();
            if database == Database::BehindProxy {
                let new_proxy = Proxy::on_tcp(&options).await;
                options = new_proxy.options_through(options);
                proxy = Some(new_proxy);
            }
            let mut url = store::url(&options);
            if database == Database::Replicated {
                let copy = failover::start_standby(&home, &started).await;
                url = failover::url([&started, &copy]);
                standby = Some(copy);
            }
            let key_file = home.data_dir.join("master.key");
            home.set("MUSTER__DATABASE__URL", &url)
                .set("MUSTER__SECRETS__MASTER_KEY_FILE", key_file.to_str().unwrap());
            postgres = Some(started);
        }
        let receiver = Receiver::start().await;
        let servers = vec![home.serve(), home.serve()];
        let credentials = home.json(&[
            "app",
            "create",
            "--buin",
            &home.credentials()["buin"].to_string(),
            "--permissions",
            "callbacks",
            "--callback-url",
            &receiver.url("/"),
            "--callback-token",
            TOKEN,
        ]);
        receiver.add_app(servers[0].client(&credentials), TOKEN);
        let [client, second_client] =
            [0, 1].map(|index: usize| servers[index].plain_client(&home.api_key()));
        let load = match servers_are_killed {
            // A response may be late after many kills, but it must arrive.
            true => Load::start_on_killed(
                &[client.clone(), second_client.clone()],
                10 * REQUEST_TIMEOUT,
            ),
            false => Load::start(&client, max_response_time()),
        };
        load.wait_for_successes(20, WAIT_TIMEOUT).await;
        Self {
            load,
            servers,
            client,
            second_client,
            receiver,
            proxy,
            postgres,
            standby,
            home,
            _exclusive: exclusive,
        }
    }

    /// Waits until no other fault test runs, and makes others wait.
    pub async fn lock_fault_tests() -> MutexGuard<'static, ()> {
        EXCLUSIVE.lock().await
    }

    /// Checks that the service recovers in time from a fault that has just ended.
    pub async fn assert_recovers(&self, fault: &str) {
        let first_successes = self.load.wait_for_successes(10, max_recovery_time()).await;
        println!("{fault}: recovered after {first_successes:?}");
        self.assert_pool_is_complete().await;
    }

    /// Kills a server.
    pub fn kill_server(&self, index: usize) {
        let running = &self.servers[index].running;
        running.signal(Signal::KILL);
        wait_for("the end of the server", || (!is_running(running.pid())).then_some(()));
        let log = running.stderr();
        assert!(!log.contains("panicked"), "{log}");
    }

    /// Starts a server again that was killed. Fails if the start is refused.
    pub fn restart_server(&mut self, index: usize) {
        let server = self.home.serve();
        let client = server.plain_client(&self.home.api_key());
        self.load.shared.replace_server(index, client.clone());
        match index {
            0 => self.client = client,
            _ => self.second_client = client,
        }
        self.servers[index] = server;
    }

    /// Waits until `count` more requests of each kind have succeeded.
    pub async fn wait_for_successes(&self, count: usize) {
        self.load.wait_for_successes(count, 2 * WAIT_TIMEOUT).await;
    }

    /// Checks that the pool has lost no connection: as many concurrent requests succeed as the pool
    /// has connections. The check is repeated, because a request may time out on a busy machine.
    async fn assert_pool_is_complete(&self) {
        wait_until_within(max_recovery_time(), "all connections of the pool", async || {
            self.list_statuses().await == [200; MAX_CONNECTIONS]
        })
        .await;
    }

    /// The statuses of concurrent lists, one for each connection of the pool.
    async fn list_statuses(&self) -> Vec<u16> {
        let mut calls = JoinSet::new();
        for _ in 0..MAX_CONNECTIONS {
            let PlainClient { base, api_key, http } = &self.client;
            let list = http.get(format!("{base}/v1/sessions?limit=1")).bearer_auth(api_key);
            calls.spawn(async move { list.send().await.unwrap().status().as_u16() });
        }
        calls.join_all().await
    }

    /// All processes of PostgreSQL, the postmaster first.
    fn processes(&self) -> Vec<Pid> {
        let postmaster = self.home.postmaster().unwrap();
        [vec![postmaster], children(postmaster)].concat()
    }

    /// Suspends all processes of PostgreSQL for this time.
    pub async fn freeze(&self, fault_duration: Duration) {
        let processes = self.processes();
        let signal_all = |signal| {
            for process in &processes {
                let _ = kill_process(*process, signal);
            }
        };
        signal_all(Signal::STOP);
        tokio::time::sleep(fault_duration).await;
        signal_all(Signal::CONT);
    }

    /// Waits until PostgreSQL refuses a write and logs `reason`.
    pub async fn wait_until_refused(&self, reason: &str) {
        let postgres = self.postgres.as_ref().unwrap();
        wait_until(&format!("the log line {reason}"), async || postgres.has_logged(reason)).await;
        tokio::time::sleep(fault_duration()).await;
    }

    /// Makes PostgreSQL begin new WAL files until the disk is full, and waits for its end.
    pub async fn wait_until_out_of_space(&self, postmaster: Pid) {
        wait_until("the end of PostgreSQL", async || {
            if let Some(mut connection) = self.try_connect().await {
                store::try_switch_wal(&mut connection).await;
            }
            !is_running(postmaster)
        })
        .await;
    }

    async fn try_connect(&self) -> Option<PgConnection> {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(self.home.postgres())
            .username("postgres")
            .database("muster");
        store::try_connect(&options).await
    }

    /// A direct connection of the test that bypasses the proxy.
    pub async fn connect(&self) -> PgConnection {
        let Some(postgres) = &self.postgres else { return self.home.connect().await };
        store::connect_with(&postgres.options()).await
    }

    /// Checks every promise after all faults.
    pub async fn check_promises(self) {
        println!("{}", self.load.shared.summary());
        self.check_visibility().await;
        self.check_connection_count().await;
        let outcomes = self.load.stop().await;
        let mut connection = match &self.postgres {
            Some(postgres) => store::connect_with(&postgres.options()).await,
            None => self.home.connect().await,
        };
        let sessions = check_history(&mut connection, &outcomes).await;
        for (session, newest) in &sessions {
            let id = session.trim_matches(['{', '}']);
            for client in [&self.client, &self.second_client] {
                assert_eq!(check_session(&client.get(id).await).1, *newest);
            }
        }
        store::close(connection).await.unwrap();
        check_callbacks(&self.receiver, &sessions).await;
        for server in self.servers {
            let log = server.stop().stderr;
            assert!(!log.contains("panicked"), "{log}");
        }
    }

    /// Checks that a write of the second server soon becomes visible on the first.
    async fn check_visibility(&self) {
        let session = self.client.create().await;
        let id = session["sessionId"].as_str().unwrap();
        let title =
            || async { self.client.get(id.trim_matches(['{', '}'])).await["title"].clone() };
        assert_eq!(title().await, "t");
        let update = json!({ "sessionId": id, "opUser": "a", "title": "t0", "addMember": ["m0"] });
        // A repeated update changes nothing, so the version stays the same.
        wait_until("the acknowledgement of the write", async || {
            self.second_client.post("update", &update).await["version"] == 2
        })
        .await;
        let written_at = Instant::now();
        wait_until("the write of the other server", async || title().await == "t0").await;
        println!("visible after {:?}", written_at.elapsed());
    }

    async fn check_connection_count(&self) {
        let mut connection = self.connect().await;
        wait_until_within(max_recovery_time(), "the end of extra connections", async || {
            let count = store::count_connections(&mut connection).await;
            let open = self.proxy.as_ref().map_or(count, Proxy::open_connections);
            println!("{open} connections");
            open <= CONNECTIONS
        })
        .await;
    }
}

/// Checks that the database has every acknowledged change and no refused one. Returns the newest
/// version of each session by its id.
async fn check_history(
    connection: &mut PgConnection,
    outcomes: &BTreeMap<u64, Outcome>,
) -> HashMap<String, i64> {
    let events = store::numbered_titles(connection).await;
    let mut made = HashMap::new();
    let mut newest: HashMap<String, i64> = HashMap::new();
    for (session, version, title) in events {
        let before = newest.insert(session.clone(), version).unwrap_or_default();
        assert_eq!(version, before + 1, "{session}");
        let number: u64 = title[1..].parse().unwrap();
        let twice = made.insert(number, (session, version));
        assert_eq!(twice, None, "change {number} was done twice");
    }
    let mut unknown = 0;
    for (number, outcome) in outcomes {
        let made = made.remove(number);
        match outcome {
            Outcome::Done { session, version } => {
                assert_eq!(
                    made,
                    Some((session.clone(), *version)),
                    "change {number} was acknowledged"
                );
            }
            Outcome::NotDone => assert_eq!(made, None, "change {number} was refused"),
            Outcome::Unknown => unknown += usize::from(made.is_some()),
        }
    }
    assert!(made.is_empty(), "not requested: {made:?}");
    println!("{} changes, {unknown} of them done with an unknown outcome", outcomes.len());
    let rows = store::numbered_sessions(connection).await;
    assert_eq!(rows.len(), newest.len());
    for (session, version, title, members) in rows {
        assert_eq!(newest[&session], version, "{session} {title}");
        assert_eq!(members, version + 2, "{session}");
    }
    newest
}

/// Checks that every version arrives, and that the first arrivals are in order.
async fn check_callbacks(receiver: &Receiver, sessions: &HashMap<String, i64>) {
    let started_at = Instant::now();
    loop {
        let mut arrived: HashMap<String, i64> = HashMap::new();
        let mut known = HashSet::new();
        for call in receiver.calls() {
            if sessions.contains_key(&call.session)
                && known.insert((call.session.clone(), call.version))
            {
                let before = arrived.insert(call.session.clone(), call.version).unwrap_or_default();
                assert_eq!(call.version, before + 1, "{}", call.session);
            }
        }
        if arrived == *sessions {
            println!("all callbacks arrived {:?} later", started_at.elapsed());
            return;
        }
        let missing =
            sessions.iter().filter(|(session, version)| arrived.get(*session) != Some(version));
        // A delivery that a crash left leased is sent after its lease.
        assert!(
            started_at.elapsed() < 2 * WAIT_TIMEOUT,
            "not delivered: {:?}",
            missing.collect::<Vec<_>>()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
