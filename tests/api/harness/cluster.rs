//! A whole PostgreSQL server for a test that needs its own: two clusters that count transactions
//! separately, or a setting that needs a restart.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use muster::postgres::embedded::{Installation, Options, StartupTimeouts};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::process::{WAIT_TIMEOUT, is_running, wait_for};
use super::server::sweeper;
use super::store::{self, PgConnectOptions};

/// The user that runs PostgreSQL if the test runs as root.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A running server. It listens on 127.0.0.1 and trusts every client. Its drop removes it.
pub struct Cluster {
    pub port: u16,
    /// The directory of the programs.
    pub programs: PathBuf,
    dir: PathBuf,
    postgres: Child,
    _sweeper: Child,
}

impl Cluster {
    /// A new server, whose first transaction has about this id, which must be below 32,768.
    pub async fn start(first_transaction: u32) -> Self {
        let options = Options {
            data_dir: PathBuf::new(),
            postgres_dir: std::env::var_os("TEST_POSTGRES_DIR").map(PathBuf::from),
            download: true,
            max_connections: 1,
            timeouts: StartupTimeouts::SERVER,
        };
        let programs = Installation::find(&options).await.unwrap().dir;
        let dir = tempfile::Builder::new().prefix("muster-cluster-").tempdir().unwrap().keep();
        let user = user();
        if let Some((uid, gid)) = user {
            chown(&dir, Some(uid), Some(gid)).unwrap();
        }
        let command = |name: &str| {
            let mut command = Command::new(programs.join(name));
            command.current_dir("/").stdin(Stdio::null());
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
        };
        let data = dir.join("data");
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        run(command("initdb")
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-D"])
            .arg(&data));
        if first_transaction > 0 {
            run(command("pg_resetwal").args(["-x", &first_transaction.to_string()]).arg(&data));
        }
        // Another process may take the port before PostgreSQL does, hence several attempts.
        for _ in 0..20 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let mut postgres = command("postgres");
            postgres.arg("-D").arg(&data).args(["-p", &port.to_string()]);
            for setting in [
                "listen_addresses=127.0.0.1",
                "unix_socket_directories=",
                "fsync=off",
                "wal_level=logical",
                "max_connections=50",
            ] {
                postgres.args(["-c", setting]);
            }
            postgres.stderr(fs::File::create(dir.join("log")).unwrap());
            if let Some(postgres) = start(&mut postgres, port).await {
                let _sweeper = sweeper("cluster", dir.to_str().unwrap());
                return Self { port, programs, dir, postgres, _sweeper };
            }
        }
        panic!("PostgreSQL does not start: {}", log(&dir));
    }

    /// The options of a database of this server.
    pub fn options(&self, database: &str) -> PgConnectOptions {
        options_for(self.port, database)
    }

    /// The URL of a database of this server.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        sweep(&self.dir);
        let _ = self.postgres.wait();
    }
}

/// Ends the server in a directory, if it runs, and removes the directory.
pub fn sweep(dir: &Path) {
    let pid = fs::read_to_string(dir.join("data/postmaster.pid"))
        .ok()
        .and_then(|text| Pid::from_raw(text.lines().next()?.trim().parse().ok()?));
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::QUIT);
        wait_for("the end of PostgreSQL", || (!is_running(pid)).then_some(()));
    }
    let _ = fs::remove_dir_all(dir);
}

/// The server, if it accepts connections; `None` if it has ended.
async fn start(command: &mut Command, port: u16) -> Option<Child> {
    let mut postgres = command.spawn().unwrap();
    let (options, started_at) = (options_for(port, "postgres"), Instant::now());
    while store::try_connect(&options).await.is_none() {
        if postgres.try_wait().unwrap().is_some() || started_at.elapsed() > WAIT_TIMEOUT {
            let _ = postgres.kill();
            let _ = postgres.wait();
            return None;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Some(postgres)
}

fn options_for(port: u16, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username("postgres")
        .database(database)
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("log")).unwrap_or_default()
}

/// The user and group ids of another user, if the test runs as root.
pub fn user() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    USERS.iter().find_map(|name| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}
