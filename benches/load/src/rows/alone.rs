//! One client without concurrent requests: coalescing must not slow it.
//!
//! Compared with the straightforward service, which runs the same statement through sqlx in its
//! handler, and with the statement alone. The first comparison shows the cost of coalescing and of
//! all other work that Muster does and a small handler does not. The second shows the cost of a
//! service between client and database: HTTP and the wake-up of another process.

use anyhow::Context as _;

use super::reads::{CACHED, uncached};
use super::row::{Figures, Row, TURNS};
use crate::direct::{self, Direct};
use crate::generator::Script;
use crate::scripts::{Creates, Gets, Updates};
use crate::seed::{Set, sets};
use crate::server::Server;
use crate::stage::Stage;
use crate::usage::Before;

/// The reference of a row.
#[derive(Clone, Copy)]
pub(super) enum Beside {
    /// The straightforward service.
    Service,
    /// The statement alone, run by the load itself.
    Statement,
}

/// The work of one client on one side, for the duration of a measurement.
type Side = Box<dyn FnMut(&mut Stage) -> anyhow::Result<Figures>>;

/// Both sides.
struct Sides {
    reference: Side,
    subject: Side,
}

/// Prepares both sides.
type Make = Box<dyn Fn(&mut Stage) -> anyhow::Result<Sides>>;

/// One client.
pub(super) struct Alone {
    make: Make,
    sides: Option<Sides>,
}

impl Alone {
    fn of(make: impl Fn(&mut Stage) -> anyhow::Result<Sides> + 'static) -> Self {
        Self { make: Box::new(make), sides: None }
    }

    fn sides(&mut self) -> anyhow::Result<&mut Sides> {
        self.sides.as_mut().context("not prepared")
    }

    /// Creates sessions of five.
    pub(super) fn creates(beside: Beside) -> Self {
        Self::of(move |stage| {
            let creates = |stage: &Stage| vec![Creates::new(&stage.app, 5)];
            let reference = match beside {
                Beside::Service => asks(Some(stage.straight()?), creates(stage)),
                Beside::Statement => runs(direct::Create::by(&stage.app)?),
            };
            let subject = asks(None, creates(stage));
            stage.vacuum()?;
            Ok(Sides { reference, subject })
        })
    }

    /// Changes sessions that were read before. The first change of a session that is not in memory
    /// reads it, which is another statement.
    pub(super) fn updates(beside: Beside) -> Self {
        Self::of(move |stage| {
            let ours = set_of(stage, beside, sets::ALONE)?;
            let theirs = set_of(stage, beside, sets::ALONE_BY_REFERENCE)?;
            let read = |stage: &mut Stage, server: Option<&Server>, set: &Set| {
                let mut gets = Gets::of(&stage.app, set, set.count, 1);
                stage.load(server, &mut gets, 1)
            };
            let reference = match beside {
                Beside::Service => {
                    let server = stage.straight()?;
                    read(stage, Some(&server), &theirs)?;
                    asks(Some(server), Updates::of(&stage.app, &theirs, 1, 1))
                }
                Beside::Statement => {
                    let app = stage.app.clone();
                    runs(direct::Change::of(&app, &theirs, &mut stage.database)?)
                }
            };
            read(stage, None, &ours)?;
            let subject = asks(None, Updates::of(&stage.app, &ours, 1, 1));
            stage.vacuum()?;
            Ok(Sides { reference, subject })
        })
    }

    /// Reads sessions more than once, with Muster's default cache.
    pub(super) fn gets(beside: Beside) -> Self {
        Self::of(move |stage| reads(stage, beside, CACHED, None))
    }

    /// Reads sessions without Muster's cache.
    pub(super) fn cold_gets(beside: Beside) -> Self {
        Self::of(move |stage| {
            let server = uncached(stage)?;
            reads(stage, beside, sets::READ.1, Some(server))
        })
    }
}

impl Row for Alone {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        self.sides = Some((self.make)(stage)?);
        Ok(())
    }

    fn turns(&self) -> u32 {
        TURNS
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        (self.sides()?.reference)(stage)
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        (self.sides()?.subject)(stage)
    }

    /// The ratio of the p50: smaller is better.
    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        subject.latencies.percentile(50) / reference.latencies.percentile(50)
    }
}

/// Requests to a server; Muster if no other is given.
fn asks(server: Option<Server>, mut script: Vec<impl Script + 'static>) -> Side {
    Box::new(move |stage| Ok(Figures::of_load(stage.load(server.as_ref(), &mut script, 1)?)))
}

/// Runs a statement.
fn runs(mut statement: impl Direct + 'static) -> Side {
    Box::new(move |stage| {
        let before = Before::now(None, stage.database.process);
        let seen = direct::alone(&mut stage.database, stage.time, &mut statement)?;
        Ok(Figures {
            rate: seen.rate,
            latencies: seen.latencies,
            usage: before.until_now(),
            ..Figures::default()
        })
    })
}

/// Reads the first `count` sessions of the read set; from Muster if no other server is given.
fn reads(
    stage: &mut Stage,
    beside: Beside,
    count: u64,
    server: Option<Server>,
) -> anyhow::Result<Sides> {
    let (number, all) = sets::READ;
    let set = stage.set(number, all)?;
    let reference = match beside {
        Beside::Service => asks(Some(stage.straight()?), Gets::of(&stage.app, &set, count, 1)),
        Beside::Statement => runs(direct::Get::of(&set)?),
    };
    let subject = asks(server, Gets::of(&stage.app, &set, count, 1));
    Ok(Sides { reference, subject })
}

/// A separate set for each comparison, so that the members are as created.
fn set_of(stage: &mut Stage, beside: Beside, sets: [(u64, u64); 2]) -> anyhow::Result<Set> {
    let [(number, count), (other, _)] = sets;
    match beside {
        Beside::Service => stage.set(number, count),
        Beside::Statement => stage.set(other, count),
    }
}
