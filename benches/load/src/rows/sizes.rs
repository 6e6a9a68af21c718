//! Small and large sessions: does time grow faster than the bytes on the wire?

use anyhow::Context as _;

use super::row::{CONNECTIONS, Figures, Row, THREADS, TURNS};
use crate::accounts;
use crate::generator::{self, Script};
use crate::scripts::{Creates, Gets};
use crate::stage::Stage;

/// The size with which all sizes are compared.
const SMALL: u64 = 3;
/// Sessions of each size that are read.
const READ: usize = 64;

/// The number of concurrent clients.
#[derive(Clone, Copy)]
pub(super) enum Clients {
    /// One client: the time of a request is its p50.
    Alone,
    /// All connections: the time of a request is 1 / rate.
    AtOnce,
}

impl Clients {
    fn threads(self) -> usize {
        match self {
            Self::Alone => 1,
            Self::AtOnce => THREADS,
        }
    }

    fn turns(self) -> u32 {
        match self {
            Self::Alone => TURNS,
            Self::AtOnce => 1,
        }
    }

    fn ask<S: Script>(self, stage: &mut Stage, scripts: &mut [S]) -> anyhow::Result<Figures> {
        let connections = match self {
            Self::Alone => 1,
            Self::AtOnce => CONNECTIONS / THREADS,
        };
        Ok(Figures::of_load(stage.load(None, scripts, connections)?))
    }

    /// The growth of time divided by the growth of bytes.
    fn growth(self, large: &Figures, small: &Figures) -> f64 {
        let time = |figures: &Figures| match self {
            Self::Alone => figures.latencies.percentile(50),
            Self::AtOnce => 1.0 / figures.rate,
        };
        (time(large) / time(small)) / (large.bytes / small.bytes)
    }
}

pub(super) struct Create {
    members: u64,
    clients: Clients,
    small: Vec<Creates>,
    large: Vec<Creates>,
}

impl Create {
    pub(super) fn new(members: u64, clients: Clients) -> Self {
        Self { members, clients, small: Vec::new(), large: Vec::new() }
    }
}

impl Row for Create {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let of =
            |count| (0..self.clients.threads()).map(|_| Creates::new(&stage.app, count)).collect();
        (self.small, self.large) = (of(SMALL), of(self.members));
        Ok(())
    }

    fn turns(&self) -> u32 {
        self.clients.turns()
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        self.clients.ask(stage, &mut self.small)
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        self.clients.ask(stage, &mut self.large)
    }

    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        self.clients.growth(subject, reference)
    }
}

pub(super) struct Get {
    members: u64,
    clients: Clients,
    small: Vec<Gets>,
    large: Vec<Gets>,
}

impl Get {
    pub(super) fn new(members: u64, clients: Clients) -> Self {
        Self { members, clients, small: Vec::new(), large: Vec::new() }
    }
}

impl Row for Get {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        self.small = gets(stage, self.clients.threads(), SMALL)?;
        self.large = gets(stage, self.clients.threads(), self.members)?;
        Ok(())
    }

    fn turns(&self) -> u32 {
        self.clients.turns()
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        self.clients.ask(stage, &mut self.small)
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        self.clients.ask(stage, &mut self.large)
    }

    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        self.clients.growth(subject, reference)
    }
}

/// Creates sessions of a size, and returns reads of them.
fn gets(stage: &Stage, threads: usize, members: u64) -> anyhow::Result<Vec<Gets>> {
    let app = &stage.app;
    let create = || {
        let first = accounts::any_first();
        let answer = generator::ask(stage.port(), &app.envelope, &app.create(first, members))?;
        let id = answer["sessionId"].as_str().context("no sessionId")?;
        anyhow::Ok((id.trim_matches(['{', '}']).to_owned(), first))
    };
    (0..threads)
        .map(|_| {
            let sessions = (0..READ / threads).map(|_| create()).collect::<Result<_, _>>()?;
            Ok(Gets::new(app, sessions, members))
        })
        .collect()
}
