//! A PostgreSQL server that belongs to one test, which may damage it.
//!
//! The server runs on the files of a [`Home`] whose embedded PostgreSQL ran before, so it has the
//! tables and the first app. For Muster it is an external server on TCP.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::process::{Home, WAIT_TIMEOUT, children};
use crate::harness::store::{self, PgConnectOptions, PgConnection};
use crate::harness::wait_until;

pub struct Postgres {
    program: PathBuf,
    data: PathBuf,
    log_file: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// Starts a server on the files of `home`.
    pub async fn start(home: &Home) -> Self {
        let data = home.postgres();
        // The command line of the previous server begins with the path of the program.
        let command_line = fs::read_to_string(data.join("postmaster.opts")).unwrap();
        let program = PathBuf::from(command_line.split_whitespace().next().unwrap());
        // The user that runs PostgreSQL must be able to enter these directories.
        for directory in data.ancestors().skip(1).take(3) {
            let mode = fs::metadata(directory).unwrap().permissions().mode();
            fs::set_permissions(directory, Permissions::from_mode(mode | 0o011)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log_file = home.parent.join("postgres.log");
        // The rules of an embedded PostgreSQL admit no client by TCP.
        let rules = data.join("external_hba.conf");
        fs::write(
            &rules,
            "host all,replication all 127.0.0.1/32 trust
",
        )
        .unwrap();
        fs::set_permissions(rules, Permissions::from_mode(0o644)).unwrap();
        let mut postgres = Self { program, data, log_file, port, child: None };
        postgres.start_again().await;
        postgres
    }

    /// Starts a standby on a copy of this server in `directory`, whose parent every user may enter.
    /// Waits until it is a synchronous standby, by these settings of this server.
    pub async fn start_standby(
        &self,
        directory: &Path,
        port: u16,
        settings: &[(String, String)],
    ) -> Self {
        let owner = fs::metadata(&self.data).unwrap();
        let _ = fs::remove_dir_all(directory);
        fs::create_dir(directory).unwrap();
        std::os::unix::fs::chown(directory, Some(owner.uid()), Some(owner.gid())).unwrap();
        fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
        let mut copy = Command::new(self.program.with_file_name("pg_basebackup"));
        copy.args(["-h", "127.0.0.1", "-U", "postgres", "-X", "stream", "-c", "fast", "-R"])
            .args(["-p", &self.port.to_string(), "-D"])
            .arg(directory)
            .current_dir("/")
            .stdin(Stdio::null());
        if rustix::process::geteuid().is_root() {
            copy.uid(owner.uid()).gid(owner.gid());
        }
        let copied = copy.output().unwrap();
        assert!(copied.status.success(), "{copied:?}");
        let mut standby = Self {
            program: self.program.clone(),
            data: directory.to_owned(),
            log_file: self.log_file.with_extension(format!("{port}.log")),
            port,
            child: None,
        };
        standby.start_again().await;
        // The settings are made after the copy, so the standby does not have them.
        let mut connection = self.connect_as_superuser().await;
        store::change_settings(&mut connection, settings).await;
        wait_until("a synchronous standby", async || {
            store::count_synchronous_standbys(&mut connection).await > 0
        })
        .await;
        standby
    }

    /// A connection that may change the server.
    pub async fn connect_as_superuser(&self) -> PgConnection {
        store::connect_with(&self.options().username("postgres")).await
    }

    /// Kills all processes at once, as a power cut would.
    pub fn kill(&mut self) {
        self.signal_all(Signal::KILL);
        self.child.take().unwrap().wait().unwrap();
    }

    /// Suspends all processes. The system still accepts connections for them.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    fn signal_all(&self, signal: Signal) {
        let postmaster = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        for process in [vec![postmaster], children(postmaster)].concat() {
            let _ = rustix::process::kill_process(process, signal);
        }
    }

    /// The address for a URL.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its files.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Starts the server, and waits until it accepts connections.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log_file =
            fs::OpenOptions::new().create(true).append(true).open(&self.log_file).unwrap();
        let owner = fs::metadata(&self.data).unwrap();
        let mut command = Command::new(&self.program);
        command
            .arg("-D")
            .arg(&self.data)
            .args(["-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", "max_connections=400", "-c"])
            .arg(format!("hba_file={}", self.data.join("external_hba.conf").display()))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().unwrap())
            .stderr(log_file)
            .process_group(0);
        if rustix::process::geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        self.child = Some(command.spawn().unwrap());
        self.wait_until_ready().await;
    }

    async fn wait_until_ready(&mut self) {
        let started_at = Instant::now();
        while store::try_connect(&self.options()).await.is_none() {
            let ended = self.has_ended() || started_at.elapsed() > WAIT_TIMEOUT;
            assert!(!ended, "{}", fs::read_to_string(&self.log_file).unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn has_logged(&self, text: &str) -> bool {
        fs::read_to_string(&self.log_file).unwrap().contains(text)
    }

    /// Options of a direct connection that bypasses the proxy.
    pub fn options(&self) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("muster")
            .database("muster");
        store::without_tls(store::without_statement_log(options))
    }

    /// Sends this signal to the server, and waits until the server has ended.
    pub fn stop(&mut self, signal: Signal) {
        let mut child = self.child.take().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
    }

    /// Reaps the server after it was killed.
    pub fn reap(&mut self) {
        self.child.take().unwrap().wait().unwrap();
    }

    /// Whether the server has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        let has_ended = self.child.as_mut().unwrap().try_wait().unwrap().is_some();
        if has_ended {
            self.child = None;
        }
        has_ended
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

/// A small file system that holds the files of one directory.
pub struct SmallDisk {
    directory: PathBuf,
}

impl SmallDisk {
    /// Moves `directory` to a file system with `headroom` more bytes. Fails with a reason if this
    /// machine does not support that.
    pub fn mount(directory: &Path, headroom: u64) -> Result<Self, String> {
        if !cfg!(target_os = "linux") || !rustix::process::geteuid().is_root() {
            return Err("only root on Linux can mount a small disk".to_owned());
        }
        let used = Command::new("du").arg("-sb").arg(directory).output().unwrap();
        let used = String::from_utf8(used.stdout).unwrap();
        let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
        // Files take whole pages in a tmpfs.
        let size = used + used / 10 + headroom;
        let original = directory.with_extension("original");
        fs::rename(directory, &original).unwrap();
        fs::create_dir(directory).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "muster-test"])
            .arg(directory)
            .output()
            .unwrap();
        if !mounted.status.success() {
            fs::remove_dir(directory).unwrap();
            fs::rename(&original, directory).unwrap();
            return Err(String::from_utf8_lossy(&mounted.stderr).into_owned());
        }
        let disk = Self { directory: directory.to_owned() };
        let from = original.join(".");
        let copied = Command::new("cp").arg("-a").args([from.as_path(), directory]).status();
        assert!(copied.unwrap().success());
        fs::remove_dir_all(original).unwrap();
        Ok(disk)
    }

    /// Fills the remaining space.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.filler()).unwrap();
        let full = std::io::copy(&mut std::io::repeat(0), &mut file).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    }

    pub fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.directory.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Processes that still use the file system keep it until they end.
        let _ = Command::new("umount").arg("--lazy").arg(&self.directory).status();
    }
}
