//! What is measured: Muster, with a PostgreSQL that it started itself, and the references beside it
//! on the same server, its settings and its tables.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use muster::wire::Envelope;
use serde_json::Value;

use crate::app::App;
use crate::database::Database;
use crate::generator::{self, Script, Seen};
use crate::pgbench::{self, Clients, Done, Pgbench};
use crate::process::{self, Running};
use crate::seed::Set;
use crate::statement::Statements;
use crate::usage::{Before, Usage};
use crate::{http, receiver};

/// How long a server may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(120);
/// The enterprise of the app without callbacks, and of the one with.
const QUIET: &str = "1";
const TOLD: &str = "2";

/// Servers, database, apps.
pub struct Stage {
    /// Dropped first: the database ends with the server.
    pub database: Database,
    /// Where all files are.
    pub work: PathBuf,
    /// How long each measurement takes.
    pub time: Duration,
    /// The product's statements.
    pub statements: Statements,
    /// The app without callbacks.
    pub app: App,
    /// What a reader of the results should know besides.
    pub notes: Vec<String>,
    pgbench: Pgbench,
    sets: HashMap<u64, Set>,
    muster: PathBuf,
    server: Server,
    told: Option<Told>,
}

/// A process that serves HTTP on a port.
pub struct Server {
    /// The process.
    pub running: Running,
    /// Its port of 127.0.0.1.
    pub port: u16,
}

/// An app with callbacks, and who receives them.
pub struct Told {
    /// The app.
    pub app: App,
    /// The receiver.
    pub receiver: Server,
}

impl Stage {
    /// Starts Muster with a fresh database below `work`.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn set_up(muster: &Path, sqlx: &Path, work: &Path, time: Duration) -> anyhow::Result<Self> {
        let statements = Statements::read(sqlx)?;
        let server = serve(muster, work, "muster", &[])?;
        let socket = work.join("data/postgres");
        let database = Database::connect(&socket)?;
        let credentials = administer(muster, work, &["app", "create", "--buin", QUIET])?;
        let app = App::enter(server.port, &credentials)?;
        let pgbench = Pgbench { program: pgbench::find(), socket, work: work.to_owned() };
        Ok(Self {
            database,
            work: work.to_owned(),
            time,
            statements,
            app,
            notes: Vec::new(),
            pgbench,
            sets: HashMap::new(),
            muster: muster.to_owned(),
            server,
            told: None,
        })
    }

    /// The port of Muster.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// The process of Muster.
    pub fn process(&self) -> u32 {
        self.server.running.id()
    }

    /// Another Muster on the same database, with settings of its own.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn another(&self, settings: &[(&str, &str)]) -> anyhow::Result<Server> {
        serve(&self.muster, &self.work, "another", settings)
    }

    /// What follows `start` in the first line of Muster's settings that begins so, if one does.
    ///
    /// # Errors
    /// When it does not print them.
    pub fn setting(&self, start: &str) -> anyhow::Result<Option<String>> {
        let printed = process::command(&self.muster).arg("config").output()?;
        let printed = String::from_utf8(printed.stdout)?;
        Ok(printed.lines().find_map(|line| line.strip_prefix(start)).map(str::to_owned))
    }

    /// Runs a command of Muster and gives what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn administer(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        administer(&self.muster, &self.work, arguments)
    }

    /// The set of sessions `number`, made when first asked for.
    ///
    /// # Errors
    /// When that fails.
    pub fn set(&mut self, number: u64, count: u64) -> anyhow::Result<Set> {
        if let Some(set) = self.sets.get(&number) {
            return Ok(set.clone());
        }
        let set = Set::new(number, count);
        set.seed(&self.pgbench, &self.statements, self.app.buin, &self.app.id)?;
        self.database.run("vacuum analyze")?;
        self.sets.insert(number, set.clone());
        Ok(set)
    }

    /// The app with callbacks, made when first asked for.
    ///
    /// # Errors
    /// When that fails.
    pub fn told(&mut self) -> anyhow::Result<&Told> {
        if self.told.is_none() {
            let receiver = Server::again("receive", &self.work, &[])?;
            let url = format!("http://127.0.0.1:{}/", receiver.port);
            let credentials = self.administer(&[
                "app",
                "create",
                "--buin",
                TOLD,
                "--callback-url",
                &url,
                "--callback-token",
                "a token of the benchmark",
            ])?;
            let app = App::enter(self.port(), &credentials)?;
            self.told = Some(Told { app, receiver });
        }
        self.told.as_ref().context("no app with callbacks")
    }

    /// Before each measurement, of a reference or not: both begin after a checkpoint.
    ///
    /// # Errors
    /// When the database fails.
    pub fn calm(&mut self) -> anyhow::Result<()> {
        ensure!(!self.server.running.ended(), "muster has ended: see {}", self.work.display());
        self.database.run("checkpoint")
    }

    /// Loads a port with scripts for the time of a measurement.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn load<S: Script>(
        &mut self,
        server: Option<&Server>,
        scripts: &mut [S],
        connections: usize,
    ) -> anyhow::Result<(Seen, Usage)> {
        let envelope = self.app.envelope.clone();
        self.load_as(&envelope, server, scripts, connections)
    }

    /// As [`Self::load`], for another app.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn load_as<S: Script>(
        &mut self,
        envelope: &Envelope,
        server: Option<&Server>,
        scripts: &mut [S],
        connections: usize,
    ) -> anyhow::Result<(Seen, Usage)> {
        self.calm()?;
        let server = server.unwrap_or(&self.server);
        let before = Before::now(Some(server.running.id()), self.database.process);
        let seen = generator::load(server.port, envelope, scripts, connections, self.time)?;
        Ok((seen, before.until_now()))
    }

    /// Runs pgbench for the time of a measurement.
    ///
    /// # Errors
    /// When it fails.
    pub fn pgbench(
        &mut self,
        script: &str,
        number: u64,
        values: &[(&str, String)],
    ) -> anyhow::Result<(Done, Usage)> {
        self.calm()?;
        let before = Before::now(None, self.database.process);
        let done = self.pgbench.run(script, Clients::For { number, time: self.time }, values)?;
        Ok((done, before.until_now()))
    }

    /// Runs pgbench for a number of transactions of each client, outside of any measurement.
    ///
    /// # Errors
    /// When it fails.
    pub fn prepare(
        &self,
        script: &str,
        clients: Clients,
        values: &[(&str, String)],
    ) -> anyhow::Result<Done> {
        self.pgbench.run(script, clients, values)
    }
}

impl Server {
    /// Runs this program again, to serve something else.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn again(what: &str, work: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = process::command(std::env::current_exe()?);
        command.arg(what).arg("--port").arg(port.to_string()).args(arguments);
        let running = Running::start(command, work, what)?;
        let mut server = Self { running, port };
        server
            .wait_until(|port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), what)?;
        Ok(server)
    }

    fn wait_until(&mut self, ready: impl Fn(u16) -> bool, what: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        while !ready(self.port) {
            ensure!(!self.running.ended(), "{what} ended at once: see {what}.log");
            ensure!(began.elapsed() < PATIENCE, "{what} does not get ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Told {
    /// How many callbacks were received so far.
    ///
    /// # Errors
    /// When the receiver does not say.
    pub fn count(&self) -> anyhow::Result<u64> {
        let body = http::call(self.receiver.port, &http::get("/count"))?;
        Ok(String::from_utf8(body)?.parse()?)
    }

    /// The first callbacks that were received.
    ///
    /// # Errors
    /// When the receiver does not say.
    pub fn kept(&self) -> anyhow::Result<Vec<receiver::Callback>> {
        Ok(serde_json::from_slice(&http::call(self.receiver.port, &http::get("/kept"))?)?)
    }
}

fn serve(
    muster: &Path,
    work: &Path,
    name: &str,
    settings: &[(&str, &str)],
) -> anyhow::Result<Server> {
    let port = free_port()?;
    let mut command = process::command(muster);
    command.arg("serve").envs(settings.iter().copied());
    environment(&mut command, work).env("MUSTER__SERVER__BIND", format!("127.0.0.1:{port}"));
    let mut server = Server { running: Running::start(command, work, name)?, port };
    server.wait_until(|port| http::call(port, &http::get("/readyz")).is_ok(), name)?;
    Ok(server)
}

/// A line in the log for each request is for operators; what it costs is not the question here, and
/// the references write none.
fn environment<'a>(command: &'a mut Command, work: &Path) -> &'a mut Command {
    command.env("MUSTER__DATA_DIR", work.join("data")).env("MUSTER__LOG__LEVEL", "warn")
}

fn administer(muster: &Path, work: &Path, arguments: &[&str]) -> anyhow::Result<Value> {
    let mut command = process::command(muster);
    environment(&mut command, work).args(arguments).arg("--json");
    let done = command.output()?;
    let complained = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "muster {}: {complained}", arguments.join(" "));
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// A port that was free a moment ago.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
