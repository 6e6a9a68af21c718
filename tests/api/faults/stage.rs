//! A database, servers on it, callers and a receiver of callbacks: what faults happen to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

use super::load::{Load, Told, whole};
use super::postgres::Postgres;
use crate::callbacks::receiver::Receiver;
use crate::harness::process::{Home, PATIENCE, Plain, Server, children, is_running};
use crate::harness::proxy::Proxy;
use crate::harness::{store, wait_until, wait_until_within};

/// What callers are promised, on a machine that has time for it.
const PROMISED: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_CONNECTIONS: usize = 6;
/// What two servers with two threads have at most, each: three for each of three lanes, two that
/// follow, two for callbacks, and the pool.
const CONNECTIONS: usize = 2 * (9 + 2 + 2 + MAX_CONNECTIONS);
const TOKEN: &str = "the callbacks' token";

/// One fault at a time, so that they do not disturb each other's measure.
static ALONE: Mutex<()> = Mutex::const_new(());

/// How long a fault lasts: as short as it can be where every change is checked.
pub fn lasting() -> Duration {
    if is_long() { Duration::from_secs(12) } else { Duration::from_millis(1_500) }
}

/// How often each fault happens.
pub fn times() -> usize {
    if is_long() { 5 } else { 1 }
}

/// The time until callers are served again. The short form runs beside all other tests, so it
/// checks only that they are.
pub fn again_within() -> Duration {
    if is_long() { PROMISED } else { PATIENCE }
}

/// The time in which each request must be answered, for the same reason longer in the short form.
fn answered_within() -> Duration {
    if is_long() { REQUEST_TIMEOUT + Duration::from_secs(1) } else { 10 * REQUEST_TIMEOUT }
}

fn is_long() -> bool {
    std::env::var("MUSTER_TEST_FAULTS").is_ok_and(|how| how == "long")
}

pub struct Stage {
    /// The load, and the servers under it; the second has none.
    load: Load,
    servers: Vec<Server>,
    pub caller: Plain,
    other: Plain,
    receiver: Receiver,
    pub proxy: Option<Proxy>,
    /// The one that is somebody else's, unless it is embedded.
    pub postgres: Option<Postgres>,
    pub home: Home,
    _alone: MutexGuard<'static, ()>,
}

/// Where the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    Embedded,
    External,
    BehindAProxy,
}

impl Stage {
    pub async fn set(database: Database) -> Self {
        Self::set_in(database, Home::lived_in(), ALONE.lock().await).await
    }

    /// The same on these files.
    pub async fn set_in(
        database: Database,
        mut home: Home,
        alone: MutexGuard<'static, ()>,
    ) -> Self {
        let seconds = |duration: Duration| duration.as_secs().to_string();
        home.set("MUSTER__SERVER__REQUEST_TIMEOUT", &seconds(REQUEST_TIMEOUT))
            .set("MUSTER__DATABASE__STATEMENT_TIMEOUT", &seconds(STATEMENT_TIMEOUT))
            // What PostgreSQL forgets of callbacks in a crash is sent again that and 30 s later.
            .set("MUSTER__DELIVERY__ATTEMPT_TIMEOUT", "1s")
            .set("MUSTER__DELIVERY__CONNECT_TIMEOUT", "1s")
            .set("MUSTER__DATABASE__MAX_CONNECTIONS", &MAX_CONNECTIONS.to_string());
        let (mut postgres, mut proxy) = (None, None);
        if database != Database::Embedded {
            let started = Postgres::start(&home).await;
            let mut options = started.options();
            if database == Database::BehindAProxy {
                let between = Proxy::on_tcp(&options).await;
                options = between.way(options);
                proxy = Some(between);
            }
            let key_file = home.data_dir.join("master.key");
            home.set("MUSTER__DATABASE__URL", options.to_url_lossy().as_str())
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
        receiver.knows(servers[0].client(&credentials), TOKEN);
        let [caller, other] = [0, 1].map(|which: usize| servers[which].plain(&home.api_key()));
        let load = Load::start(&caller, answered_within());
        load.goes_on(20).await;
        Self { load, servers, caller, other, receiver, proxy, postgres, home, _alone: alone }
    }

    /// One that nobody else uses meanwhile.
    pub async fn alone() -> MutexGuard<'static, ()> {
        ALONE.lock().await
    }

    /// The service must be there again: a fault has just ended.
    pub async fn recovers(&self, fault: &str) {
        let ended = Instant::now();
        let first = self.load.succeeds(ended, 10).await;
        println!("{fault}: again after {first:?}");
        for (kind, took) in first {
            assert!(took <= again_within(), "{fault}: the first {kind:?} after {took:?}");
        }
        self.pool_is_whole().await;
    }

    /// As many requests work at once as the pool has connections. A request that waited too long on
    /// a busy machine is repeated; a lost connection would never come back.
    async fn pool_is_whole(&self) {
        wait_until_within(again_within(), "a pool that is whole", async || {
            self.list_statuses().await == [200; MAX_CONNECTIONS]
        })
        .await;
    }

    /// The statuses of as many lists at once as there are connections in the pool.
    async fn list_statuses(&self) -> Vec<u16> {
        let mut calls = JoinSet::new();
        for _ in 0..MAX_CONNECTIONS {
            let Plain { base, api_key, http } = &self.caller;
            let list = http.get(format!("{base}/v1/sessions?limit=1")).bearer_auth(api_key);
            calls.spawn(async move { list.send().await.unwrap().status().as_u16() });
        }
        calls.join_all().await
    }

    /// All processes of PostgreSQL, the first one first.
    fn processes(&self) -> Vec<Pid> {
        let postmaster = self.home.postmaster().unwrap();
        [vec![postmaster], children(postmaster)].concat()
    }

    /// All of PostgreSQL stands still for a while.
    pub async fn freeze(&self, lasting: Duration) {
        let processes = self.processes();
        let tell = |signal| {
            for process in &processes {
                let _ = kill_process(*process, signal);
            }
        };
        tell(Signal::STOP);
        tokio::time::sleep(lasting).await;
        tell(Signal::CONT);
    }

    /// Waits until writing is refused, which PostgreSQL must explain so.
    pub async fn is_refused(&self, why: &str) {
        let postgres = self.postgres.as_ref().unwrap();
        let began = Instant::now();
        while !postgres.has_said(why) {
            assert!(began.elapsed() < PATIENCE, "{why}: never");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(lasting()).await;
    }

    /// Makes PostgreSQL begin files of WAL until there is no room for one, and waits for its end.
    pub async fn ends_for_want_of_room(&self, postmaster: Pid) {
        let began = Instant::now();
        while is_running(postmaster) {
            assert!(began.elapsed() < PATIENCE, "it goes on");
            if let Some(mut connection) = self.try_connect().await {
                store::try_switch_wal(&mut connection).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn try_connect(&self) -> Option<PgConnection> {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(self.home.postgres())
            .username("muster")
            .database("muster");
        PgConnection::connect_with(&options).await.ok()
    }

    /// A connection of the test's own, past everything.
    pub async fn connect(&self) -> PgConnection {
        let Some(postgres) = &self.postgres else { return self.home.connect().await };
        PgConnection::connect_with(&postgres.options()).await.unwrap()
    }

    /// Everything that was promised, now that all faults are over.
    pub async fn check(self) {
        println!("{}", self.load.seen.summary());
        self.is_followed().await;
        self.connections_are_few().await;
        let told = self.load.stop().await;
        let mut connection = match &self.postgres {
            Some(postgres) => PgConnection::connect_with(&postgres.options()).await.unwrap(),
            None => self.home.connect().await,
        };
        let sessions = check_history(&mut connection, &told).await;
        for (session, newest) in &sessions {
            let id = session.trim_matches(['{', '}']);
            for caller in [&self.caller, &self.other] {
                assert_eq!(whole(&caller.get(id).await).1, *newest);
            }
        }
        connection.close().await.unwrap();
        are_told(&self.receiver, &sessions).await;
        for server in self.servers {
            let log = server.stop().stderr;
            assert!(!log.contains("panicked"), "{log}");
        }
    }

    /// What the other server writes is soon seen here.
    async fn is_followed(&self) {
        let session = self.caller.create().await;
        let id = session["sessionId"].as_str().unwrap();
        let title =
            || async { self.caller.get(id.trim_matches(['{', '}'])).await["title"].clone() };
        assert_eq!(title().await, "t");
        let update = json!({ "sessionId": id, "opUser": "a", "title": "t0", "addMember": ["m0"] });
        assert_eq!(self.other.post("update", &update).await["version"], 2);
        let wrote = Instant::now();
        wait_until("what the other wrote", async || title().await == "t0").await;
        println!("followed after {:?}", wrote.elapsed());
    }

    async fn connections_are_few(&self) {
        let mut connection = self.connect().await;
        let began = Instant::now();
        loop {
            let count = store::count_connections(&mut connection).await;
            let open = self.proxy.as_ref().map_or(count, Proxy::open);
            if open <= CONNECTIONS {
                println!("{open} connections");
                return;
            }
            assert!(began.elapsed() < again_within(), "{open} connections");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The database has what was acknowledged and not what was refused. Gives the newest version of each
/// session of which something was told, by its id.
async fn check_history(
    connection: &mut PgConnection,
    told: &BTreeMap<u64, Told>,
) -> HashMap<String, i64> {
    let events = store::numbered_titles(connection).await;
    let mut made = HashMap::new();
    let mut newest: HashMap<String, i64> = HashMap::new();
    for (session, version, title) in events {
        let before = newest.insert(session.clone(), version).unwrap_or_default();
        assert_eq!(version, before + 1, "{session}");
        let number: u64 = title[1..].parse().unwrap();
        let twice = made.insert(number, (session, version));
        assert_eq!(twice, None, "{number} was done twice");
    }
    let mut unknown = 0;
    for (number, told) in told {
        let made = made.remove(number);
        match told {
            Told::Done { session, version } => {
                assert_eq!(made, Some((session.clone(), *version)), "{number} was acknowledged");
            }
            Told::NotDone => assert_eq!(made, None, "{number} was not done, it was said"),
            Told::Unknown => unknown += usize::from(made.is_some()),
        }
    }
    assert!(made.is_empty(), "nobody asked for {made:?}");
    println!("{} changes; of those that nobody knew of {unknown} were done", told.len());
    let rows = store::numbered_sessions(connection).await;
    assert_eq!(rows.len(), newest.len());
    for (session, version, title, members) in rows {
        assert_eq!(newest[&session], version, "{session} {title}");
        assert_eq!(members, version + 2, "{session}");
    }
    newest
}

/// Every version arrives, and first in its order.
async fn are_told(receiver: &Receiver, sessions: &HashMap<String, i64>) {
    let began = Instant::now();
    loop {
        let mut told: HashMap<String, i64> = HashMap::new();
        let mut known = HashSet::new();
        for call in receiver.calls() {
            if sessions.contains_key(&call.session)
                && known.insert((call.session.clone(), call.version))
            {
                let before = told.insert(call.session.clone(), call.version).unwrap_or_default();
                assert_eq!(call.version, before + 1, "{}", call.session);
            }
        }
        if told == *sessions {
            println!("all was told {:?} later", began.elapsed());
            return;
        }
        let missing =
            sessions.iter().filter(|(session, version)| told.get(*session) != Some(version));
        // What a crash left leased waits for the end of its lease.
        assert!(began.elapsed() < 2 * PATIENCE, "not told: {:?}", missing.collect::<Vec<_>>());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
