//! Small and large sessions: does time grow faster than the bytes on the wire?

use anyhow::Context as _;

use super::row::{CONNECTIONS, Figures, Row, SLICES, THREADS};
use crate::accounts;
use crate::environment::Environment;
use crate::generator::{self, Script};
use crate::scripts::{Creates, Gets};

/// The number of members with which all sizes are compared.
const BASELINE_MEMBERS: u64 = 3;
/// Sessions of each size that are read.
const SESSIONS_READ: usize = 64;

/// The number of concurrent clients.
#[derive(Clone, Copy)]
pub(super) enum Clients {
    /// One client: the time of a request is its p50.
    Single,
    /// All connections: the time of a request is 1 / rate.
    Concurrent,
}

impl Clients {
    fn threads(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Concurrent => THREADS,
        }
    }

    fn slices(self) -> u32 {
        match self {
            Self::Single => SLICES,
            Self::Concurrent => 1,
        }
    }

    fn load<S: Script>(self, env: &mut Environment, scripts: &mut [S]) -> anyhow::Result<Figures> {
        let connections = match self {
            Self::Single => 1,
            Self::Concurrent => CONNECTIONS / THREADS,
        };
        Ok(Figures::from_load(env.load(None, scripts, connections)?))
    }

    /// The growth of time divided by the growth of bytes.
    fn growth(self, large: &Figures, small: &Figures) -> f64 {
        let time = |figures: &Figures| match self {
            Self::Single => figures.latencies.percentile(50),
            Self::Concurrent => 1.0 / figures.rate,
        };
        (time(large) / time(small)) / (large.bytes / small.bytes)
    }
}

/// Sessions of two sizes under the same load.
pub(super) struct Sizes<S> {
    members: u64,
    clients: Clients,
    /// Makes one script for each thread, for sessions with this many members.
    scripts: fn(&Environment, usize, u64) -> anyhow::Result<Vec<S>>,
    small: Vec<S>,
    large: Vec<S>,
}

/// Creates of sessions with this many members.
pub(super) fn create(members: u64, clients: Clients) -> Sizes<Creates> {
    Sizes { members, clients, scripts: creates, small: Vec::new(), large: Vec::new() }
}

/// Reads of sessions with this many members.
pub(super) fn get(members: u64, clients: Clients) -> Sizes<Gets> {
    Sizes { members, clients, scripts: gets, small: Vec::new(), large: Vec::new() }
}

impl<S: Script> Row for Sizes<S> {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        self.small = (self.scripts)(env, self.clients.threads(), BASELINE_MEMBERS)?;
        self.large = (self.scripts)(env, self.clients.threads(), self.members)?;
        Ok(())
    }

    fn slices(&self) -> u32 {
        self.clients.slices()
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        self.clients.load(env, &mut self.small)
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        self.clients.load(env, &mut self.large)
    }

    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        self.clients.growth(subject, reference)
    }

    fn smaller_is_better(&self) -> bool {
        true
    }
}

fn creates(env: &Environment, threads: usize, members: u64) -> anyhow::Result<Vec<Creates>> {
    Ok((0..threads).map(|_| Creates::new(&env.app, members)).collect())
}

/// Creates sessions of a size, and returns reads of them.
fn gets(env: &Environment, threads: usize, members: u64) -> anyhow::Result<Vec<Gets>> {
    let app = &env.app;
    let create = || {
        let first = accounts::random_first();
        let answer = generator::call(env.port(), &app.envelope, &app.create(first, members))?;
        let id = answer["sessionId"].as_str().context("no sessionId")?;
        anyhow::Ok((id.trim_matches(['{', '}']).to_owned(), first))
    };
    (0..threads)
        .map(|_| {
            let sessions =
                (0..SESSIONS_READ / threads).map(|_| create()).collect::<Result<_, _>>()?;
            Ok(Gets::new(app, sessions, members))
        })
        .collect()
}
