//! A PostgreSQL that belongs to nobody but one test, which does to it what it likes.
//!
//! It runs on the files of a [`Home`] on which an embedded one ran before, so it has the tables and
//! the first app; to Muster it is somebody else's server, on TCP. It ends with its home.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::harness::process::{Home, PATIENCE};

pub struct Postgres {
    program: PathBuf,
    data: PathBuf,
    said: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// Starts one on the files of `home`.
    pub async fn start(home: &Home) -> Self {
        let data = home.postgres();
        // What the one before was started with, its own name first.
        let started_with = fs::read_to_string(data.join("postmaster.opts")).unwrap();
        let program = PathBuf::from(started_with.split_whitespace().next().unwrap());
        // Whoever runs it must get there.
        for above in data.ancestors().skip(1).take(3) {
            let mode = fs::metadata(above).unwrap().permissions().mode();
            fs::set_permissions(above, Permissions::from_mode(mode | 0o011)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let said = home.parent.join("postgres.said");
        let mut postgres = Self { program, data, said, port, child: None };
        postgres.start_again().await;
        postgres
    }

    /// Starts it, and waits until it lets somebody in.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let said = fs::OpenOptions::new().create(true).append(true).open(&self.said).unwrap();
        let owner = fs::metadata(&self.data).unwrap();
        let mut command = Command::new(&self.program);
        command
            .arg("-D")
            .arg(&self.data)
            .args(["-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", "max_connections=400"])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .process_group(0);
        if rustix::process::geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        self.child = Some(command.spawn().unwrap());
        self.until_it_answers().await;
    }

    async fn until_it_answers(&mut self) {
        let began = Instant::now();
        while PgConnection::connect_with(&self.options()).await.is_err() {
            let ended = self.is_gone() || began.elapsed() > PATIENCE;
            assert!(!ended, "{}", fs::read_to_string(&self.said).unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn has_said(&self, what: &str) -> bool {
        fs::read_to_string(&self.said).unwrap().contains(what)
    }

    /// The database, without anything between.
    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("muster")
            .database("muster")
            .log_statements(log::LevelFilter::Off)
    }

    /// Asks it to end as this signal does, and waits until it has.
    pub fn stop(&mut self, signal: Signal) {
        let mut child = self.child.take().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
    }

    /// It was killed: takes note of that.
    pub fn bury(&mut self) {
        self.child.take().unwrap().wait().unwrap();
    }

    /// Whether it has ended by itself.
    pub fn is_gone(&mut self) -> bool {
        let gone = self.child.as_mut().unwrap().try_wait().unwrap().is_some();
        if gone {
            self.child = None;
        }
        gone
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = rustix::process::Pid::from_child(&child);
            let _ = rustix::process::kill_process(pid, Signal::CONT);
            let _ = rustix::process::kill_process(pid, Signal::QUIT);
            let _ = child.wait();
        }
    }
}

/// A small disk: what lies in a directory, moved to where there is room for little more.
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Puts `directory` on one with this many more bytes, or says why that cannot be done here.
    pub fn under(directory: &Path, spare: u64) -> Result<Self, String> {
        if !cfg!(target_os = "linux") || !rustix::process::geteuid().is_root() {
            return Err("only root on Linux can mount a small disk".to_owned());
        }
        let there = Command::new("du").arg("-sb").arg(directory).output().unwrap();
        let there = String::from_utf8(there.stdout).unwrap();
        let there: u64 = there.split_whitespace().next().unwrap().parse().unwrap();
        // Files take whole pages there.
        let size = there + there / 10 + spare;
        let beside = directory.with_extension("beside");
        fs::rename(directory, &beside).unwrap();
        fs::create_dir(directory).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "muster-test"])
            .arg(directory)
            .output()
            .unwrap();
        if !mounted.status.success() {
            fs::remove_dir(directory).unwrap();
            fs::rename(&beside, directory).unwrap();
            return Err(String::from_utf8_lossy(&mounted.stderr).into_owned());
        }
        let disk = Self { at: directory.to_owned() };
        let from = beside.join(".");
        let copied = Command::new("cp").arg("-a").args([from.as_path(), directory]).status();
        assert!(copied.unwrap().success());
        fs::remove_dir_all(beside).unwrap();
        Ok(disk)
    }

    /// Takes all that is left.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.filler()).unwrap();
        let full = std::io::copy(&mut std::io::repeat(0), &mut file).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    }

    pub fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whatever still uses it keeps it until it ends.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}
