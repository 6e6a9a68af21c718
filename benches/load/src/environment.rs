//! The measured system: Muster with its own PostgreSQL, and the references on the same server, with
//! the same settings and tables.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use muster::wire::Envelope;
use serde_json::Value;

use crate::app::App;
use crate::database::Database;
use crate::generator::{self, LoadResult, Script};
use crate::pgbench::{self, Clients, Pgbench, PgbenchResult};
use crate::process;
use crate::seed::{Set, sets};
use crate::server::{self, Server};
use crate::statement::Statements;
use crate::subscriber::Subscriber;
use crate::usage::{Usage, UsageMeter};

/// The enterprises of the app without callbacks and of the app with callbacks.
const BUIN_WITHOUT_CALLBACKS: &str = "1";
const BUIN_WITH_CALLBACKS: &str = "2";

/// Servers, database, apps.
pub struct Environment {
    /// Dropped first, because the database ends with the server.
    pub database: Database,
    /// The directory of all files.
    pub work: PathBuf,
    /// The duration of each measurement.
    pub time: Duration,
    /// Muster's statements.
    pub statements: Statements,
    /// The app without callbacks.
    pub app: App,
    /// Notes for readers of the results.
    pub notes: Vec<String>,
    /// The measured program.
    pub muster: PathBuf,
    pgbench: Pgbench,
    sets: HashMap<u64, Set>,
    server: Server,
    subscriber: Option<Subscriber>,
}

/// The files of the measured program. `benches/run` passes them.
#[derive(Args)]
pub struct EnvironmentOptions {
    /// The measured program
    #[arg(long, value_name = "FILE", hide = true)]
    pub muster: PathBuf,
    /// The directory of the compiler's query data
    #[arg(long, value_name = "DIRECTORY", hide = true)]
    sqlx: PathBuf,
    /// An empty directory for all files
    #[arg(long, value_name = "DIRECTORY", hide = true)]
    work: PathBuf,
}

impl Environment {
    /// Starts Muster with a new database below the working directory of `options`.
    ///
    /// # Errors
    /// If it does not get ready.
    pub fn start(options: &EnvironmentOptions, time: Duration) -> anyhow::Result<Self> {
        let EnvironmentOptions { muster, sqlx, work } = options;
        let statements = Statements::read(sqlx)?;
        let server = server::start_muster(muster, work, "muster", &[])?;
        let socket = work.join("data/postgres");
        let database = Database::connect(&socket)?;
        let create = ["app", "create", "--buin", BUIN_WITHOUT_CALLBACKS];
        let credentials = server::run_command(muster, work, &create)?;
        let app = App::with_token(server.port, &credentials)?;
        let pgbench = Pgbench { program: pgbench::find(), socket, work: work.to_owned() };
        let mut environment = Self {
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
            subscriber: None,
        };
        // Rows must not depend on each other: plans depend on the sizes of tables, so no table is
        // empty.
        let (number, count) = sets::READ;
        environment.set(number, count)?;
        Ok(environment)
    }

    /// The port of Muster.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// The process of Muster.
    pub fn process(&self) -> u32 {
        self.server.running.id()
    }

    /// Another Muster on the same database, with other settings.
    ///
    /// # Errors
    /// If it does not get ready.
    pub fn start_another_server(&self, settings: &[(&str, &str)]) -> anyhow::Result<Server> {
        self.start_with_command(process::command(&self.muster), settings)
    }

    /// The same by a command that runs Muster in its own way.
    ///
    /// # Errors
    /// If it does not get ready.
    pub fn start_with_command(
        &self,
        command: Command,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Server> {
        // The first server has the key file: an external database has no generated master key.
        let key = self.work.join("data/master.key");
        let key = key.to_str().context("the path is not UTF-8")?;
        let settings = [settings, &[("MUSTER__SECRETS__MASTER_KEY_FILE", key)]].concat();
        server::start_command(command, &self.work, "another", &settings)
    }

    /// The straightforward service on the same database, for the app without callbacks.
    ///
    /// # Errors
    /// If it does not get ready.
    pub fn start_straightforward_service(&self) -> anyhow::Result<Server> {
        let socket = self.work.join("data/postgres");
        let socket = socket.to_str().context("the path is not UTF-8")?;
        let App { buin, key, id, .. } = &self.app;
        let buin = buin.to_string();
        let arguments = ["--key", key, "--app-id", id, "--buin", &buin, "--socket", socket];
        Server::start_role("straightforward", &self.work, &arguments)
    }

    /// The text after `start` in the first line of Muster's settings that begins with it.
    ///
    /// # Errors
    /// If Muster does not print its settings.
    pub fn setting(&self, start: &str) -> anyhow::Result<Option<String>> {
        let output = process::command(&self.muster).arg("config").output()?;
        let printed = String::from_utf8(output.stdout)?;
        Ok(printed.lines().find_map(|line| line.strip_prefix(start)).map(str::to_owned))
    }

    /// Runs a command of Muster and returns its JSON.
    ///
    /// # Errors
    /// If the command fails.
    pub fn run_command(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        server::run_command(&self.muster, &self.work, arguments)
    }

    /// The set of sessions `number`, created on first use.
    ///
    /// # Errors
    /// If the sessions cannot be created.
    pub fn set(&mut self, number: u64, count: u64) -> anyhow::Result<Set> {
        if let Some(set) = self.sets.get(&number) {
            return Ok(set.clone());
        }
        let set = Set::new(number, count);
        set.seed(&self.pgbench, &self.statements, self.app.buin, &self.app.id)?;
        self.vacuum()?;
        self.sets.insert(number, set.clone());
        Ok(set)
    }

    /// The app with callbacks and its receiver, created on first use.
    ///
    /// # Errors
    /// If one of them cannot be created.
    pub fn subscriber(&mut self) -> anyhow::Result<&Subscriber> {
        if self.subscriber.is_none() {
            let receiver = Server::start_role("receive", &self.work, &[])?;
            let url = format!("http://127.0.0.1:{}/", receiver.port);
            let credentials = self.run_command(&[
                "app",
                "create",
                "--buin",
                BUIN_WITH_CALLBACKS,
                "--callback-url",
                &url,
                "--callback-token",
                "a token of the benchmark",
            ])?;
            let app = App::with_token(self.port(), &credentials)?;
            self.subscriber = Some(Subscriber { app, receiver });
        }
        self.subscriber.as_ref().context("no app with callbacks")
    }

    /// Prepares a measurement of subject or reference: both begin after a checkpoint.
    ///
    /// # Errors
    /// If the database fails.
    pub fn checkpoint(&mut self) -> anyhow::Result<()> {
        ensure!(!self.server.running.has_ended(), "muster has ended: see {}", self.work.display());
        self.database.run("checkpoint")
    }

    /// Does the work of autovacuum in advance, so that autovacuum stays idle for a while.
    ///
    /// # Errors
    /// If the database fails.
    pub fn vacuum(&mut self) -> anyhow::Result<()> {
        self.database.run("vacuum analyze")
    }

    /// Sends the requests of scripts to a port for the duration of a measurement.
    ///
    /// # Errors
    /// If the port cannot be reached.
    pub fn load<S: Script>(
        &mut self,
        server: Option<&Server>,
        scripts: &mut [S],
        connections: usize,
    ) -> anyhow::Result<(LoadResult, Usage)> {
        let envelope = self.app.envelope.clone();
        self.load_as(&envelope, server, scripts, connections)
    }

    /// The same as [`Self::load`] to the first server, with at most `rate` requests in a second.
    ///
    /// # Errors
    /// If the port cannot be reached.
    pub fn load_at_rate<S: Script>(
        &mut self,
        scripts: &mut [S],
        connections: usize,
        rate: f64,
    ) -> anyhow::Result<(LoadResult, Usage)> {
        let envelope = self.app.envelope.clone();
        let meter = UsageMeter::start(Some(self.server.running.id()), self.database.process);
        let (port, time) = (self.server.port, self.time);
        let result = generator::load_at_rate(port, &envelope, scripts, connections, time, rate)?;
        Ok((result, meter.stop()))
    }

    /// The same as [`Self::load`] for another app.
    ///
    /// # Errors
    /// If the port cannot be reached.
    pub fn load_as<S: Script>(
        &mut self,
        envelope: &Envelope,
        server: Option<&Server>,
        scripts: &mut [S],
        connections: usize,
    ) -> anyhow::Result<(LoadResult, Usage)> {
        let server = server.unwrap_or(&self.server);
        let meter = UsageMeter::start(Some(server.running.id()), self.database.process);
        let result = generator::load(server.port, envelope, scripts, connections, self.time)?;
        Ok((result, meter.stop()))
    }

    /// Runs pgbench for the duration of a measurement.
    ///
    /// # Errors
    /// If pgbench fails.
    pub fn pgbench(
        &mut self,
        script: &str,
        number: u64,
        values: &[(&str, String)],
    ) -> anyhow::Result<(PgbenchResult, Usage)> {
        let meter = UsageMeter::start(None, self.database.process);
        let result = self.pgbench.run(script, Clients::For { number, time: self.time }, values)?;
        Ok((result, meter.stop()))
    }

    /// Runs pgbench for a number of transactions of each client, outside of measurements.
    ///
    /// # Errors
    /// If pgbench fails.
    pub fn prepare(
        &self,
        script: &str,
        clients: Clients,
        values: &[(&str, String)],
    ) -> anyhow::Result<PgbenchResult> {
        self.pgbench.run(script, clients, values)
    }
}
