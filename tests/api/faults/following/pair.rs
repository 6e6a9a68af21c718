//! Two servers on one database, of which each dies and starts again at its address.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use rustix::process::Signal;

use crate::faults::kills;
use crate::harness::process::{
    Home, Output, Running, Server, WAIT_TIMEOUT, http, is_running, lasting_address, wait_for,
};
use crate::harness::server::Database;
use crate::harness::store::{self, PgConnectOptions, PgConnection};
use crate::harness::{wait_until, wait_until_within};

pub struct Pair {
    pub home: Home,
    /// The database of `home`, unless it is embedded.
    database: Option<Database>,
    addresses: [SocketAddr; 2],
    servers: [Option<Server>; 2],
}

/// The number of kills.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kills {
    pub servers: usize,
    /// The servers among them that numbered changes.
    pub leaders: usize,
    pub postgres: usize,
}

impl Pair {
    /// Starts two servers at addresses that stay theirs.
    pub fn start(home: Home) -> Self {
        Self::start_at([lasting_address(), lasting_address()], home, None)
    }

    fn start_at(addresses: [SocketAddr; 2], mut home: Home, database: Option<Database>) -> Self {
        home.set("MUSTER__SERVER__REQUEST_TIMEOUT", "10s")
            .set("MUSTER__DATABASE__STATEMENT_TIMEOUT", "5s")
            .set("MUSTER__DELIVERY__ENABLED", "false");
        let servers = addresses.map(|address| Some(home.serve_on(address)));
        Self { home, database, addresses, servers }
    }

    pub fn urls(&self) -> [String; 2] {
        self.addresses.map(|address| format!("http://{address}"))
    }

    /// A connection to the database, as soon as it accepts one.
    pub async fn connect(&self) -> PgConnection {
        let mut connection = None;
        wait_until("the database", async || {
            connection = self.try_connect().await;
            connection.is_some()
        })
        .await;
        connection.unwrap()
    }

    async fn try_connect(&self) -> Option<PgConnection> {
        let embedded = || {
            let options = PgConnectOptions::new_without_pgpass().socket(self.home.postgres());
            options.username("muster").database("muster")
        };
        let options = self.database.as_ref().map_or_else(embedded, |found| found.options.clone());
        store::try_connect(&options).await
    }

    /// The process of PostgreSQL that serves the server which numbers changes.
    async fn sequencer(&self) -> Option<i32> {
        store::sequencer(&mut self.connect().await).await
    }

    /// Whether a server says that it numbers changes.
    async fn is_leader(&self, index: usize) -> bool {
        let Some(server) = &self.servers[index] else { return false };
        let Ok(page) = http().get(server.metrics_url()).send().await else { return false };
        page.text().await.unwrap_or_default().contains("\nmuster_feed_sequencer_leader 1\n")
    }

    /// The server that numbers changes, and its process of PostgreSQL.
    async fn leader(&self) -> (usize, i32) {
        let mut found = None;
        wait_until_within(2 * WAIT_TIMEOUT, "a server that numbers changes", async || {
            let before = self.sequencer().await;
            let leaders = [self.is_leader(0).await, self.is_leader(1).await];
            let index = match leaders {
                [true, false] => 0,
                [false, true] => 1,
                _ => return false,
            };
            found = before.map(|backend| (index, backend));
            found.is_some() && self.sequencer().await == before
        })
        .await;
        found.unwrap()
    }

    /// Kills a server with SIGKILL, and waits for its end.
    fn kill(&mut self, index: usize) {
        let server = self.servers[index].take().unwrap();
        server.running.signal(Signal::KILL);
        wait_for("the end of the server", || (!is_running(server.running.pid())).then_some(()));
        let log = server.running.stderr();
        assert!(!log.contains("panicked"), "{log}");
    }

    /// Kills the server that numbers changes. Returns when the other one does.
    pub async fn kill_leader(&mut self, kills: &mut Kills) -> usize {
        let (index, backend) = self.leader().await;
        self.kill(index);
        let other = 1 - index;
        wait_until_within(2 * WAIT_TIMEOUT, "another server that numbers changes", async || {
            self.is_leader(other).await && self.sequencer().await.is_some_and(|pid| pid != backend)
        })
        .await;
        kills.servers += 1;
        kills.leaders += 1;
        index
    }

    /// Kills the server that does not number changes.
    pub async fn kill_standby(&mut self, kills: &mut Kills) -> usize {
        let index = 1 - self.leader().await.0;
        self.kill(index);
        kills.servers += 1;
        index
    }

    /// Kills all processes of the embedded PostgreSQL. A server starts it again.
    pub fn kill_postgres(&self, kills: &mut Kills) {
        wait_for("PostgreSQL", || kills::postmaster(&self.home));
        kills::kill_postgres(&self.home, true);
        kills.postgres += 1;
    }

    /// Starts a server again that was killed.
    pub fn start_again(&mut self, index: usize) {
        assert!(self.servers[index].is_none());
        self.servers[index] = Some(self.home.serve_on(self.addresses[index]));
    }

    /// Stops both servers, starts two servers of another home at their addresses, and returns the
    /// pair together with the old home.
    pub fn replace(self, make: impl FnOnce(&Home) -> (Home, Option<Database>)) -> (Self, Home) {
        for server in self.servers.into_iter().flatten() {
            let log = server.stop().stderr;
            assert!(!log.contains("panicked"), "{log}");
        }
        let (home, database) = make(&self.home);
        (Self::start_at(self.addresses, home, database), self.home)
    }
}

/// Runs a command to its end, however long it takes.
pub fn run(home: &Home, arguments: &[&str]) -> Output {
    let (running, started_at) = (Running::start(home, arguments), Instant::now());
    while is_running(running.pid()) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = running.output();
    assert!(output.status.success(), "{output:#?}");
    println!("{} took {:?}", arguments[0], started_at.elapsed());
    output
}

/// A home with a new data directory and the master key of another one.
pub fn home_with_key_of(other: &Home) -> Home {
    let home = Home::new();
    std::fs::create_dir(&home.data_dir).unwrap();
    let key = |home: &Home| home.data_dir.join("master.key");
    std::fs::copy(key(other), key(&home)).unwrap();
    home
}

/// A home for a database, with the master key of another home.
pub fn home_after_move(from: &Home, database: &Database) -> Home {
    let mut home = Home::for_database(database);
    let key = from.data_dir.join("master.key");
    home.set("MUSTER__SECRETS__MASTER_KEY", "");
    home.set("MUSTER__SECRETS__MASTER_KEY_FILE", key.to_str().unwrap());
    home
}

/// The path of a directory as text.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
