//! Small sessions and large ones: does time grow faster than the bytes on the wire?

use anyhow::Context as _;

use super::{CONNECTIONS, Figures, Row, THREADS};
use crate::accounts;
use crate::generator;
use crate::scripts::{Creates, Gets};
use crate::stage::Stage;

/// What all sizes are compared with.
const SMALL: u64 = 3;
/// Sessions of each size that are read.
const READ: usize = 64;

/// How much longer, by how much larger.
fn growth(large: &Figures, small: &Figures) -> f64 {
    (small.rate / large.rate) / (large.bytes / small.bytes)
}

pub(super) struct Create {
    members: u64,
    small: Vec<Creates>,
    large: Vec<Creates>,
}

impl Create {
    pub(super) fn new(members: u64) -> Self {
        Self { members, small: Vec::new(), large: Vec::new() }
    }
}

impl Row for Create {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let of = |count| (0..THREADS).map(|_| Creates::new(&stage.app, count)).collect();
        (self.small, self.large) = (of(SMALL), of(self.members));
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        Ok(Figures::of_load(stage.load(None, &mut self.small, CONNECTIONS / THREADS)?))
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        Ok(Figures::of_load(stage.load(None, &mut self.large, CONNECTIONS / THREADS)?))
    }

    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        growth(subject, reference)
    }
}

pub(super) struct Get {
    members: u64,
    small: Vec<Gets>,
    large: Vec<Gets>,
}

impl Get {
    pub(super) fn new(members: u64) -> Self {
        Self { members, small: Vec::new(), large: Vec::new() }
    }
}

impl Row for Get {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        self.small = gets(stage, SMALL)?;
        self.large = gets(stage, self.members)?;
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        Ok(Figures::of_load(stage.load(None, &mut self.small, CONNECTIONS / THREADS)?))
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        Ok(Figures::of_load(stage.load(None, &mut self.large, CONNECTIONS / THREADS)?))
    }

    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        growth(subject, reference)
    }
}

/// Creates sessions of a size, and what reads them.
fn gets(stage: &Stage, members: u64) -> anyhow::Result<Vec<Gets>> {
    let app = &stage.app;
    let create = || {
        let first = accounts::any_first();
        let answer = generator::ask(stage.port(), &app.envelope, &app.create(first, members))?;
        let id = answer["sessionId"].as_str().context("no sessionId")?;
        anyhow::Ok((id.trim_matches(['{', '}']).to_owned(), first))
    };
    (0..THREADS)
        .map(|_| {
            let sessions = (0..READ / THREADS).map(|_| create()).collect::<Result<_, _>>()?;
            Ok(Gets::new(app, sessions, members))
        })
        .collect()
}
