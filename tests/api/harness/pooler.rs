//! A PgBouncer in front of a PostgreSQL of the tests, with the configuration of the manual.
//!
//! `.ci/pgbouncer` sets `TEST_PGBOUNCER` to the program. With `TEST_DATABASE_POOLER`, each service and each
//! command of a test goes through one.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};

use super::cluster;
use super::process::{lasting_address, wait_for};
use super::server::sweeper;
use super::store::PgConnectOptions;

const PAGE: &str = "docs/operate/pgbouncer.md";
const PASSWORD: &str = "choose one";

/// A running PgBouncer. Its drop stops it.
pub struct Pooler {
    program: PathBuf,
    port: u16,
    dir: PathBuf,
    child: Child,
    _sweeper: Child,
}

/// The program, if there is one. Otherwise the output says that a test was not done.
#[expect(clippy::print_stdout, reason = "a test without the program says so")]
pub fn program() -> Option<PathBuf> {
    let program = std::env::var_os("TEST_PGBOUNCER").map(PathBuf::from);
    if program.is_none() {
        println!("NOT DONE: TEST_PGBOUNCER names no PgBouncer: use .ci/pgbouncer");
    }
    program
}

/// Whether the services of the tests go through one.
pub fn is_of_run() -> bool {
    std::env::var_os("TEST_DATABASE_POOLER").is_some()
}

/// The PgBouncer of the whole run, if the tests go through one.
pub fn of_run(server: &PgConnectOptions) -> Option<&'static Pooler> {
    static POOLER: OnceLock<Pooler> = OnceLock::new();
    if !is_of_run() {
        return None;
    }
    let program = program().expect("TEST_DATABASE_POOLER needs TEST_PGBOUNCER");
    Some(POOLER.get_or_init(|| Pooler::start(&program, server, "*", &[])))
}

/// The configuration of the manual.
pub fn printed_configuration() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("<!-- tested: pgbouncer.ini -->\n```ini\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

impl Pooler {
    /// Starts the program in front of a server. `name` is the database of the clients, or `*` for each one.
    /// `changes` replace parts of the printed configuration.
    pub fn start(
        program: &Path,
        server: &PgConnectOptions,
        name: &str,
        changes: &[(&str, &str)],
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("muster-pooler-").tempdir().unwrap().keep();
        let port = lasting_address().port();
        let users = dir.join("userlist.txt");
        fs::write(&users, format!("\"{}\" \"{PASSWORD}\"\n", server.get_username())).unwrap();
        let host = match server.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => server.get_host().to_owned(),
        };
        let mut entry = format!("{name} = host={host} port={}", server.get_port());
        if let Some(database) = server.get_database().filter(|_| name != "*") {
            entry.push_str(&format!(" dbname={database}"));
        }
        let mut text = printed_configuration();
        let port_text = port.to_string();
        let addresses = [
            ("muster = host=db.example.com port=5432 dbname=muster", entry.as_str()),
            ("6432", &port_text),
            ("/etc/pgbouncer/userlist.txt", users.to_str().unwrap()),
        ];
        for (printed, actual) in addresses.iter().chain(changes) {
            assert!(text.contains(printed), "no {printed} in {text}");
            text = text.replace(printed, actual);
        }
        let file = dir.join("pgbouncer.ini");
        fs::write(&file, text).unwrap();
        if let Some((uid, gid)) = cluster::user() {
            for path in [&dir, &users, &file] {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
        }
        let program = program.to_owned();
        let child = spawn(&program, &dir);
        let _sweeper = sweeper("pooler", dir.to_str().unwrap());
        wait_for("PgBouncer", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { program, port, dir, child, _sweeper }
    }

    /// The options of a connection through it to a database of its server.
    pub fn options(&self, direct: &PgConnectOptions, name: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(direct.get_username())
            .password(PASSWORD)
            .database(name)
            // PgBouncer refuses it.
            .extra_float_digits(None)
    }

    /// Stops it at once, and starts it again at the same address.
    pub fn restart(mut self) -> Self {
        self.signal(Signal::QUIT);
        let _ = self.child.wait();
        self.child = spawn(&self.program, &self.dir);
        wait_for("PgBouncer", || TcpStream::connect(("127.0.0.1", self.port)).ok());
        self
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

fn spawn(program: &Path, dir: &Path) -> Child {
    let mut command = Command::new(program);
    // PgBouncer refuses to run as root.
    if let Some((uid, gid)) = cluster::user() {
        command.uid(uid).gid(gid);
    }
    command.arg("--quiet").arg(dir.join("pgbouncer.ini")).current_dir("/").stdin(Stdio::null());
    command.stderr(fs::File::create(dir.join("log")).unwrap());
    let child = command.spawn().unwrap();
    fs::write(dir.join("pid"), child.id().to_string()).unwrap();
    child
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.signal(Signal::QUIT);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Ends the PgBouncer of a directory, if it runs, and removes the directory.
pub fn sweep(dir: &Path) {
    let pid = fs::read_to_string(dir.join("pid")).ok();
    if let Some(pid) = pid.and_then(|text| Pid::from_raw(text.parse().ok()?)) {
        let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
        // Another process may have the number by now.
        let dir = dir.to_str().unwrap();
        if command.is_ok_and(|command| String::from_utf8_lossy(&command).contains(dir)) {
            let _ = kill_process(pid, Signal::QUIT);
        }
    }
    let _ = fs::remove_dir_all(dir);
}
