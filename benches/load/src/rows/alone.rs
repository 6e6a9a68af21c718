//! One client with nobody beside it: what coalescing must not cost.
//!
//! Beside the straightforward service, which runs the same statement through sqlx in its handler, and
//! beside the statement alone. The first tells what coalescing costs, and everything else that Muster
//! does and a handler of a few lines does not; the second tells what it costs that there is a service
//! between client and database at all, which is HTTP and the waking of another process.

use anyhow::Context as _;

use super::reads::{CACHED, uncached};
use super::{Figures, Row, TURNS, sets};
use crate::direct::{self, Direct};
use crate::generator::Script;
use crate::scripts::{Creates, Gets, Updates};
use crate::seed::Set;
use crate::server::Server;
use crate::stage::Stage;
use crate::usage::Before;

/// What Muster is compared with.
#[derive(Clone, Copy)]
pub(super) enum Beside {
    /// The straightforward service.
    Service,
    /// The statement alone, run by the load itself.
    Statement,
}

/// A reference that is ready.
enum Reference<S, D> {
    Service(Server, Vec<S>),
    Statement(D),
}

impl<S: Script, D: Direct> Reference<S, D> {
    fn measure(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        match self {
            Self::Service(server, asking) => ask(stage, Some(server), asking),
            Self::Statement(what) => directly(stage, what),
        }
    }
}

/// p50 by p50: smaller is better.
fn p50(subject: &Figures, reference: &Figures) -> f64 {
    subject.latencies.percentile(50) / reference.latencies.percentile(50)
}

/// Asks a server, Muster if no other is given.
fn ask(
    stage: &mut Stage,
    server: Option<&Server>,
    script: &mut [impl Script],
) -> anyhow::Result<Figures> {
    Ok(Figures::of_load(stage.load(server, script, 1)?))
}

/// Runs a statement for the time of a measurement.
fn directly(stage: &mut Stage, what: &mut impl Direct) -> anyhow::Result<Figures> {
    let before = Before::now(None, stage.database.process);
    let seen = direct::alone(&mut stage.database, stage.time, what)?;
    Ok(Figures {
        rate: seen.rate,
        latencies: seen.latencies,
        usage: before.until_now(),
        ..Figures::default()
    })
}

pub(super) struct Create {
    beside: Beside,
    reference: Option<Reference<Creates, direct::Create>>,
    asking: Vec<Creates>,
}

impl Create {
    pub(super) fn beside(beside: Beside) -> Self {
        Self { beside, reference: None, asking: Vec::new() }
    }
}

impl Row for Create {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let creates = || vec![Creates::new(&stage.app, 5)];
        self.asking = creates();
        self.reference = Some(match self.beside {
            Beside::Service => Reference::Service(stage.straight()?, creates()),
            Beside::Statement => Reference::Statement(direct::Create::by(&stage.app)?),
        });
        stage.vacuum()
    }

    fn turns(&self) -> u32 {
        TURNS
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        self.reference.as_mut().context("not prepared")?.measure(stage)
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        ask(stage, None, &mut self.asking)
    }

    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        p50(subject, reference)
    }
}

pub(super) struct Update {
    beside: Beside,
    reference: Option<Reference<Updates, direct::Change>>,
    asking: Vec<Updates>,
}

impl Update {
    pub(super) fn beside(beside: Beside) -> Self {
        Self { beside, reference: None, asking: Vec::new() }
    }
}

impl Row for Update {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let ours = set_of(stage, self.beside, sets::ALONE)?;
        let theirs = set_of(stage, self.beside, sets::ALONE_BY_REFERENCE)?;
        // The first change of a session that is not in memory reads it, which is another statement.
        stage.load(None, &mut Gets::of(&stage.app, &ours, ours.count, 1), 1)?;
        self.asking = Updates::of(&stage.app, &ours, 1, 1);
        self.reference = Some(match self.beside {
            Beside::Service => {
                let server = stage.straight()?;
                let mut reading = Gets::of(&stage.app, &theirs, theirs.count, 1);
                stage.load(Some(&server), &mut reading, 1)?;
                Reference::Service(server, Updates::of(&stage.app, &theirs, 1, 1))
            }
            Beside::Statement => {
                let app = stage.app.clone();
                Reference::Statement(direct::Change::of(&app, &theirs, &mut stage.database)?)
            }
        });
        stage.vacuum()
    }

    fn turns(&self) -> u32 {
        TURNS
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        self.reference.as_mut().context("not prepared")?.measure(stage)
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        ask(stage, None, &mut self.asking)
    }

    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        p50(subject, reference)
    }
}

/// Sets of their own for each comparison: who is in is as it was made.
fn set_of(stage: &mut Stage, beside: Beside, sets: [(u64, u64); 2]) -> anyhow::Result<Set> {
    let [(number, count), (other, _)] = sets;
    match beside {
        Beside::Service => stage.set(number, count),
        Beside::Statement => stage.set(other, count),
    }
}

pub(super) struct Get {
    beside: Beside,
    cached: bool,
    reference: Option<Reference<Gets, direct::Get>>,
    server: Option<Server>,
    asking: Vec<Gets>,
}

impl Get {
    /// As Muster is by default, of sessions that are read more than once.
    pub(super) fn cached(beside: Beside) -> Self {
        Self { beside, cached: true, reference: None, server: None, asking: Vec::new() }
    }

    /// Without a cache.
    pub(super) fn cold(beside: Beside) -> Self {
        Self { cached: false, ..Self::cached(beside) }
    }
}

impl Row for Get {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let (number, count) = sets::READ;
        let set = stage.set(number, count)?;
        let read = if self.cached { CACHED } else { count };
        let gets = || Gets::of(&stage.app, &set, read, 1);
        self.asking = gets();
        self.reference = Some(match self.beside {
            Beside::Service => Reference::Service(stage.straight()?, gets()),
            Beside::Statement => Reference::Statement(direct::Get::of(&set)?),
        });
        if !self.cached {
            self.server = Some(uncached(stage)?);
        }
        Ok(())
    }

    fn turns(&self) -> u32 {
        TURNS
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        self.reference.as_mut().context("not prepared")?.measure(stage)
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        ask(stage, self.server.as_ref(), &mut self.asking)
    }

    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        p50(subject, reference)
    }
}
