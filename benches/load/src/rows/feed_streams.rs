//! Open streams beside other requests: streams that get some of the changes, and streams that get none.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::feed::create_key;
use super::row::{CONNECTIONS, Figures, Row, THREADS};
use crate::accounts;
use crate::environment::Environment;
use crate::event_stream::OpenStreams;
use crate::scripts::{Creates, Gets};
use crate::seed::sets;
use crate::server::Server;
use crate::usage;

/// The filters beside creates: members, owners, sessions.
const MEMBERS: u64 = 700;
const OWNERS: u64 = 200;
const SESSIONS: u64 = 100;
/// The distance from one account of a filter to the next.
const ACCOUNT_STRIDE: u64 = 97;
/// The number of idle streams.
const IDLE: u64 = 10_000;
/// The memory that idle streams may take, in MiB.
const MAX_IDLE_MIB: f64 = 200.0;
/// The time that the server gets to close the streams of clients that are gone.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Long enough for two bookmarks of each stream.
const SETTLE_TIME: Duration = Duration::from_secs(10);

/// Creates beside a thousand streams with different filters.
#[derive(Default)]
pub(super) struct FeedStreams {
    authorization: String,
    filters: Vec<String>,
    scripts: Vec<Creates>,
}

impl Row for FeedStreams {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        raise_file_limit()?;
        self.authorization = create_key(env)?;
        let (number, count) = sets::READ;
        let set = env.set(number, count)?;
        let account = |n: u64| accounts::member(n * ACCOUNT_STRIDE, 0);
        let members = (0..MEMBERS).map(|n| format!("?member={}", account(n)));
        let owners = (MEMBERS..MEMBERS + OWNERS).map(|n| format!("?owner={}", account(n)));
        let sessions = (0..SESSIONS).map(|n| format!("?sessionId={}", set.id(n)));
        self.filters = members.chain(owners).chain(sessions).collect();
        self.scripts = (0..THREADS).map(|_| Creates::new(&env.app, 5)).collect();
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        Ok(Figures::from_load(env.load(None, &mut self.scripts, CONNECTIONS / THREADS)?))
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let (process, port) = (env.process(), env.port());
        let files = open_files(process)?;
        let streams = OpenStreams::open(port, &self.authorization, &self.filters)?;
        let mut figures =
            Figures::from_load(env.load(None, &mut self.scripts, CONNECTIONS / THREADS)?);
        // The last changes have their time: streams read them within a few moments.
        std::thread::sleep(Duration::from_millis(200));
        let changes = streams.close()?;
        await_closed(process, files)?;
        env.notes.push(format!(
            "feed_streams: {changes} events to {} streams beside {:.0} creates/s.",
            self.filters.len(),
            figures.rate
        ));
        if changes == 0 {
            figures.add_failure("no stream has got a change".to_owned());
        }
        Ok(figures)
    }
}

/// Reads of sessions beside ten thousand streams that get no change.
#[derive(Default)]
pub(super) struct IdleStreams {
    authorization: String,
    filters: Vec<String>,
    scripts: Vec<Gets>,
    server: Option<Server>,
    /// The resident memory without streams in the first round, before there were any.
    first_mib: Option<f64>,
}

impl Row for IdleStreams {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        raise_file_limit()?;
        self.authorization = create_key(env)?;
        self.filters = (0..IDLE).map(|n| format!("?member=idle{n}")).collect();
        let (number, count) = sets::READ;
        let set = env.set(number, count)?;
        self.scripts = Gets::for_set(&env.app, &set, 10_000, THREADS);
        // A new server: memory that other rows have left free must not hide that of the streams.
        let server = env.start_another_server(&[
            ("MUSTER__LIMITS__MAX_STREAMS_PER_APP", "10000"),
            ("MUSTER__LIMITS__MAX_STREAMS_PER_ENTERPRISE", "10000"),
        ])?;
        // All sessions are in memory afterwards.
        env.load(Some(&server), &mut self.scripts, CONNECTIONS / THREADS)?;
        self.server = Some(server);
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let server = self.server.as_ref().context("no server")?;
        Ok(Figures::from_load(env.load(Some(server), &mut self.scripts, CONNECTIONS / THREADS)?))
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let server = self.server.as_ref().context("no server")?;
        let process = server.running.id();
        let (files, before) = (open_files(process)?, usage::resident(process));
        let first = *self.first_mib.get_or_insert(before);
        let streams = OpenStreams::open(server.port, &self.authorization, &self.filters)?;
        std::thread::sleep(SETTLE_TIME);
        let with = usage::resident(process);
        let figures =
            Figures::from_load(env.load(Some(server), &mut self.scripts, CONNECTIONS / THREADS)?);
        streams.close()?;
        await_closed(process, files)?;
        let reached = if with - first <= MAX_IDLE_MIB { "yes" } else { "no" };
        env.notes.push(format!(
            "feed_idle: {with:.0} MiB resident with {IDLE} idle streams, {first:.0} MiB before the first of \
             them: {:.0} MiB more (goal ≤ {MAX_IDLE_MIB:.0}: {reached}).",
            with - first
        ));
        Ok(figures)
    }

    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        subject.latencies.percentile(99) / reference.latencies.percentile(99)
    }

    fn smaller_is_better(&self) -> bool {
        true
    }
}

fn raise_file_limit() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// The number of files and connections that a process has open.
fn open_files(process: u32) -> anyhow::Result<usize> {
    let directory = PathBuf::from(format!("/proc/{process}/fd"));
    Ok(std::fs::read_dir(directory)?.count())
}

/// Waits until a server has closed what it has opened beyond `files`.
fn await_closed(process: u32, files: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    // The connections of the load may still be open, and those of the pool.
    while open_files(process)? > files + 2 * CONNECTIONS {
        ensure!(Instant::now() < deadline, "the server does not close streams without a client");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
