//! The real program as a process, on its own data directory.
//!
//! Processes of a test end with it: servers when they are dropped, PostgreSQL with its [`Home`].
//! The sweeper ends the processes of a killed run: all homes are below one directory.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::clock::Clock;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

use super::client::Client;
use super::server::{Database, sweeper};
use super::store::{self, PgConnectOptions, PgConnection};

/// The limit for all waits, with slack for a machine that is busy with other tests.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until `find` returns a value.
#[track_caller]
pub fn wait_for<T>(condition: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let started_at = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(started_at.elapsed() < WAIT_TIMEOUT, "not within {WAIT_TIMEOUT:?}: {condition}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The directory of all homes of this run.
fn root() -> &'static Path {
    static ROOT: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let (root, _) = ROOT.get_or_init(|| {
        let root = tempfile::Builder::new().prefix("muster-homes-").tempdir().unwrap().keep();
        let sweeper = sweeper("homes", root.to_str().unwrap());
        (root, sweeper)
    });
    root
}

/// Ends the processes in the homes below `root`, and removes the homes.
pub fn sweep(root: &Path) {
    for home in fs::read_dir(root).unwrap() {
        let home = home.unwrap().path();
        for file in fs::read_dir(&home).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|end| end == "pid")
                && let Some(pid) = pid_in(&file)
                && fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero()))
                    .is_ok_and(|program| program.ends_with("muster"))
            {
                let _ = kill_process(pid, Signal::KILL);
            }
            kill_postgres(&file.join("postgres"));
        }
    }
    let _ = fs::read_to_string("/proc/mounts").map(|mounts| {
        for mount in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
            if Path::new(mount).starts_with(root) {
                let _ = Command::new("umount").args(["--lazy", mount]).status();
            }
        }
    });
    fs::remove_dir_all(root).unwrap();
}

fn pid_in(file: &Path) -> Option<Pid> {
    let text = fs::read_to_string(file).ok()?;
    Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
}

/// Ends the PostgreSQL of a directory, if it runs, and waits for its end.
fn kill_postgres(data: &Path) {
    let pid = pid_in(&data.join("postmaster.pid"));
    if let Some(pid) = pid.filter(|pid| is_postgres_of(*pid, data)) {
        let _ = kill_process(pid, Signal::QUIT);
        let started_at = Instant::now();
        while is_running(pid) && started_at.elapsed() < WAIT_TIMEOUT {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether a process is the PostgreSQL of a directory. A PostgreSQL that was killed leaves its file
/// behind, and its id may belong to a program of another test by now.
fn is_postgres_of(pid: Pid, data: &Path) -> bool {
    let directory = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
    directory.map_or(!cfg!(target_os = "linux"), |directory| {
        fs::canonicalize(data).is_ok_and(|data| data == directory)
    })
}

/// Whether a process runs. A zombie does not count.
pub fn is_running(pid: Pid) -> bool {
    test_kill_process(pid).is_ok()
        && fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
            .map_or(!cfg!(target_os = "linux"), |stat| !stat.contains(") Z "))
}

/// A free address whose port the system gives to no outgoing connection, so a server that restarts gets
/// it again.
pub fn lasting_address() -> SocketAddr {
    loop {
        let port = rand::random_range(15_000..32_000);
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return ([127, 0, 0, 1], port).into();
        }
    }
}

/// A data directory and the configuration of a server.
pub struct Home {
    /// The working directory of the program.
    pub parent: PathBuf,
    pub data_dir: PathBuf,
    pub env: Vec<(String, String)>,
}

impl Home {
    /// A home without a database.
    pub fn new() -> Self {
        Self::named("data")
    }

    /// The same with a data directory of this name.
    pub fn named(name: &str) -> Self {
        let parent = tempfile::Builder::new().tempdir_in(root()).unwrap().keep();
        let data_dir = parent.join(name);
        let env = [
            ("MUSTER__DATA_DIR", data_dir.to_str().unwrap()),
            ("MUSTER__SERVER__BIND", "127.0.0.1:0"),
            ("MUSTER__SERVER__WORKERS", "2"),
            ("MUSTER__METRICS__BIND", "127.0.0.1:0"),
            ("MUSTER__DATABASE__DOWNLOAD", "false"),
            // A machine that is busy with other tests may need long for a request, for a connection
            // to the database, and for a statement.
            ("MUSTER__SERVER__REQUEST_TIMEOUT", "120s"),
            ("MUSTER__DATABASE__ACQUIRE_TIMEOUT", "60s"),
            ("MUSTER__DATABASE__STATEMENT_TIMEOUT", "48s"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { parent, data_dir, env }
    }

    /// A home with a database: a copy, which is faster than a first start.
    pub fn with_database() -> Self {
        static TEMPLATE: OnceLock<Home> = OnceLock::new();
        let template = TEMPLATE.get_or_init(|| {
            let template = Self::new();
            template.serve().stop();
            template
        });
        let home = Self::new();
        // The copy keeps owners: PostgreSQL's files belong to another user if the test runs as
        // root.
        let directories = [&template.data_dir, &home.data_dir];
        let copied = Command::new("cp").arg("-a").args(directories).status();
        assert!(copied.unwrap().success());
        home
    }

    /// A home whose commands use a database of the tests' PostgreSQL.
    pub fn for_database(database: &Database) -> Self {
        let mut home = Self::new();
        home.set("MUSTER__DATABASE__URL", &store::url(&database.options));
        home.set("MUSTER__SECRETS__MASTER_KEY", super::MASTER_KEY);
        if let Some(pooled) = database.pooled_options() {
            home.go_through(&pooled);
            home.set("MUSTER__DATABASE__DIRECT_URL", &store::url(&database.options));
        }
        home
    }

    /// Lets all processes that start later go through a pooler.
    pub fn go_through(&mut self, pooled: &PgConnectOptions) -> &mut Self {
        self.set("MUSTER__DATABASE__URL", &store::url(pooled));
        self.set("MUSTER__DATABASE__POOLER", "transaction")
    }

    /// Lets all processes that start later use another database, without a pooler.
    pub fn use_directly(&mut self, url: &str) -> &mut Self {
        const OF_POOLER: [&str; 2] = ["MUSTER__DATABASE__DIRECT_URL", "MUSTER__DATABASE__POOLER"];
        self.env.retain(|(name, _)| !OF_POOLER.contains(&name.as_str()));
        self.set("MUSTER__DATABASE__URL", url)
    }

    /// Sets a variable for all processes that start later.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The program with only the environment of this home.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().to_ascii_uppercase().starts_with("MUSTER") {
                command.env_remove(name);
            }
        }
        if super::unshared() {
            command.env("MUSTER__CACHE__ENABLED", "false").env("MUSTER__DATABASE__MAX_BATCH", "1");
        }
        command
            .args(arguments)
            .current_dir(&self.parent)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Output {
        Running::start(self, arguments).output()
    }

    /// Runs a command that must succeed, and parses its output.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--json"]].concat()).ok().json()
    }

    /// Starts a server and waits until it listens.
    #[track_caller]
    pub fn serve(&self) -> Server {
        Server::when_listening(Running::start(self, &[]))
    }

    /// Starts a server on this address and waits until it listens.
    #[track_caller]
    pub fn serve_on(&self, address: SocketAddr) -> Server {
        let mut command = self.command(&[]);
        command.env("MUSTER__SERVER__BIND", address.to_string());
        Server::when_listening(Running::spawn(self, &mut command))
    }

    /// Starts a server that gets a listening socket from its service manager, as from systemd.
    #[track_caller]
    pub fn serve_with_socket(&self, socket: &TcpListener) -> Server {
        Server::when_listening(self.start_with_file(socket.try_clone().unwrap().into()))
    }

    /// Starts a server that gets this file from its service manager.
    #[track_caller]
    pub fn start_with_file(&self, file: OwnedFd) -> Running {
        let program = self.command(&[]);
        // Passed files begin at 3. The shell becomes the server, so both have the same process id.
        let script = r#"exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0""#;
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(program.get_program()).current_dir(&self.parent);
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(file).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::spawn(self, &mut command)
    }

    /// The credentials file of the first start.
    pub fn credentials(&self) -> Value {
        let text = fs::read(self.data_dir.join("first-app.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    pub fn api_key(&self) -> String {
        self.credentials()["apiKey"].as_str().unwrap().to_owned()
    }

    pub fn postgres(&self) -> PathBuf {
        self.data_dir.join("postgres")
    }

    /// PostgreSQL's first process. A regular stop removes its file.
    pub fn postmaster(&self) -> Option<Pid> {
        pid_in(&self.postgres().join("postmaster.pid"))
    }

    /// A connection for the test.
    pub async fn connect(&self) -> PgConnection {
        self.connect_as("muster").await
    }

    /// A connection as another role.
    pub async fn connect_as(&self, role: &str) -> PgConnection {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(self.postgres())
            .username(role)
            .database("muster");
        store::connect_with(&options).await
    }

    /// Makes the whole server read-only or not.
    pub async fn set_read_only(&self, setting: &str) {
        store::set_read_only(&mut self.connect_as("postgres").await, setting).await;
    }

    /// Kills all processes of PostgreSQL at once, as a power cut would.
    pub fn kill_postgres(&self) {
        let postmaster = self.postmaster().unwrap();
        for process in [vec![postmaster], children(postmaster)].concat() {
            let _ = kill_process(process, Signal::KILL);
        }
        wait_for("the end of PostgreSQL", || (!is_running(postmaster)).then_some(()));
    }
}

impl Home {
    /// Sends PostgreSQL a signal to stop, and waits until it has stopped.
    pub fn signal_postgres(&self, signal: Signal) {
        let postmaster = self.postmaster().unwrap();
        kill_process(postmaster, signal).unwrap();
        wait_for("the end of PostgreSQL", || (!is_running(postmaster)).then_some(()));
    }

    /// Kills only PostgreSQL's first process. The other processes end when they detect this.
    pub fn kill_postmaster(&self) {
        let postmaster = self.postmaster().unwrap();
        kill_process(postmaster, Signal::KILL).unwrap();
        wait_for("the end of PostgreSQL", || (!is_running(postmaster)).then_some(()));
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        kill_postgres(&self.postgres());
        let _ = fs::remove_dir_all(&self.parent);
    }
}

/// The child processes of `parent`.
pub fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let (_, rest) = stat.rsplit_once(')')?;
            (rest.split_whitespace().nth(1)? == parent).then_some(pid)
        })
        .collect()
}

/// The result of a command.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Checks that the command succeeded without an error message. A warning about a slow statement
    /// or a slow start of PostgreSQL is no error, because a loaded machine is slow.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{self:#?}");
        let is_slowness = |line: &&str| {
            ["slow statement: ", "is not ready yet"].iter().any(|text| line.contains(text))
        };
        let mut errors = self.stderr.lines().filter(|line| !is_slowness(line));
        assert_eq!(errors.next(), None, "{self:#?}");
        self
    }

    /// Checks that the command failed with this exit code, and only printed an error with all
    /// `parts`.
    #[track_caller]
    pub fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {self:#?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// The output of one pipe so far, and whether the pipe has ended.
type Captured = Arc<(Mutex<(String, bool)>, Condvar)>;

/// A running process of the program.
pub struct Running {
    child: Child,
    pid_file: PathBuf,
    stdout: Captured,
    stderr: Captured,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    #[track_caller]
    pub fn start(home: &Home, arguments: &[&str]) -> Self {
        Self::spawn(home, &mut home.command(arguments))
    }

    /// Starts a command of [`Home::command`] that was changed. Only pipes are captured.
    #[track_caller]
    pub fn spawn(home: &Home, command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let pid_file = home.parent.join(format!("{}.pid", child.id()));
        fs::write(&pid_file, child.id().to_string()).unwrap();
        let (stdout, stderr) = (Captured::default(), Captured::default());
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|pipe| read(pipe, stdout.clone())));
        readers.extend(child.stderr.take().map(|pipe| read(pipe, stderr.clone())));
        Self { child, pid_file, stdout, stderr, readers }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub fn stdout(&self) -> String {
        self.stdout.0.lock().unwrap().0.clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.0.lock().unwrap().0.clone()
    }

    /// Waits until the standard output has a match.
    #[track_caller]
    pub fn until_stdout<T>(&self, condition: &str, find: impl Fn(&str) -> Option<T>) -> T {
        self.wait_for(&self.stdout, condition, find)
    }

    /// Waits until the standard error has a match.
    #[track_caller]
    pub fn until_stderr<T>(&self, condition: &str, find: impl Fn(&str) -> Option<T>) -> T {
        self.wait_for(&self.stderr, condition, find)
    }

    #[track_caller]
    fn wait_for<T>(
        &self,
        captured: &Captured,
        condition: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> T {
        let (state, changed) = &**captured;
        let started_at = Instant::now();
        let mut state = state.lock().unwrap();
        loop {
            if let Some(found) = find(&state.0) {
                return found;
            }
            if state.1 || started_at.elapsed() >= WAIT_TIMEOUT {
                drop(state);
                panic!("{condition}: not in {:?}, {:?}", self.stdout(), self.stderr());
            }
            state = changed.wait_timeout(state, Duration::from_millis(100)).unwrap().0;
        }
    }

    /// Waits for the end of the process, and returns its whole output.
    #[track_caller]
    pub fn output(mut self) -> Output {
        let started_at = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                started_at.elapsed() < WAIT_TIMEOUT,
                "does not end: {:?}, {:?}",
                self.stdout(),
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(2));
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Output { status, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.pid_file);
    }
}

fn read(mut pipe: impl Read + Send + 'static, captured: Captured) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let (state, changed) = &*captured;
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = pipe.read(&mut buffer).unwrap_or_default();
            bytes.extend(&buffer[..length]);
            let mut state = state.lock().unwrap();
            state.0 = String::from_utf8_lossy(&bytes).into_owned();
            state.1 = length == 0;
            changed.notify_all();
            if length == 0 {
                return;
            }
        }
    })
}

/// A server that listens.
pub struct Server {
    pub running: Running,
    pub address: SocketAddr,
}

impl Server {
    /// Waits until a starting server listens.
    #[track_caller]
    fn when_listening(running: Running) -> Self {
        let address = running.until_stdout("the listen address", |text| {
            let (_, url) = text.split_once("listens on ")?;
            url.split_once('\n')?.0.split_once("://")?.1.parse().ok()
        });
        Self { running, address }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The address of the page of metrics.
    #[track_caller]
    pub fn metrics_url(&self) -> String {
        let address = self.running.until_stderr("the metrics address", |log| {
            Some(log.split_once(" metrics=")?.1.split_once('\n')?.0.to_owned())
        });
        format!("http://{address}/metrics")
    }

    /// Stops the server as an operator would.
    #[track_caller]
    pub fn stop(self) -> Output {
        self.running.signal(Signal::TERM);
        let output = self.running.output();
        assert_eq!(output.status.code(), Some(0), "{output:#?}");
        output
    }

    /// Kills the server.
    pub fn kill(self) {
        self.running.signal(Signal::KILL);
        assert_eq!(self.running.output().status.signal(), Some(9));
    }

    /// A client of the app of these credentials: the file of the first app, or the output of `app
    /// create`.
    pub fn client(&self, credentials: &Value) -> Client {
        Client {
            base: format!("http://{}", self.address),
            buin: credentials["buin"].as_i64().unwrap(),
            app_id: credentials["appId"].as_str().unwrap().to_owned(),
            key: key(credentials),
            clock: Clock::system(),
            http: http(),
        }
    }

    /// A client that sends plain requests.
    pub fn plain_client(&self, api_key: &str) -> PlainClient {
        PlainClient {
            base: format!("http://{}", self.address),
            api_key: api_key.to_owned(),
            http: http(),
        }
    }
}

fn key(credentials: &Value) -> [u8; 32] {
    let key = STANDARD.decode(credentials["aesKey"].as_str().unwrap()).unwrap();
    key.try_into().unwrap()
}

pub fn http() -> reqwest::Client {
    plain_http().timeout(WAIT_TIMEOUT).build().unwrap()
}

/// A client for servers without TLS. It reads no CA certificates of this machine, which would take a
/// debug build about 25 ms for each client.
pub fn plain_http() -> reqwest::ClientBuilder {
    // Only the first call has an effect.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().tls_certs_only([])
}

/// A client that sends plain requests with an API key.
#[derive(Clone)]
pub struct PlainClient {
    pub base: String,
    pub api_key: String,
    pub http: reqwest::Client,
}

impl PlainClient {
    /// The response, or the error of a request without one.
    pub async fn try_post(&self, call: &str, body: &Value) -> reqwest::Result<Value> {
        let url = format!("{}/cgi/session/{call}?accessToken={}", self.base, self.api_key);
        self.http.post(url).body(body.to_string()).send().await?.json().await
    }

    pub async fn post(&self, call: &str, body: &Value) -> Value {
        self.try_post(call, body).await.unwrap()
    }

    pub async fn get(&self, session_id: &str) -> Value {
        let query = format!("accessToken={}&sessionId={session_id}", self.api_key);
        let url = format!("{}/cgi/session/get?{query}", self.base);
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// Creates a session of three members.
    pub async fn create(&self) -> Value {
        let body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
        let session = self.post("create", &body).await;
        assert_eq!(session["errcode"], 0, "{session}");
        session
    }

    /// The errcode of a call that any valid key may make.
    pub async fn errcode(&self) -> i64 {
        let id = "00000000-0000-7000-8000-000000000000";
        match self.get(id).await["errcode"].as_i64().unwrap() {
            // An accepted key gets the error of a session that does not exist.
            400_003 => 0,
            errcode => errcode,
        }
    }
}
