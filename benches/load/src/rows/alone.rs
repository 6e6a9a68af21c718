//! One client with nobody beside it: what coalescing must not cost.

use anyhow::Context as _;

use super::reads::{CACHED, uncached};
use super::{Figures, Row, sets};
use crate::direct::{self, Direct};
use crate::scripts::{Creates, Gets, Updates};
use crate::server::Server;
use crate::stage::Stage;
use crate::usage::Before;

/// p50 by p50: smaller is better.
fn p50(subject: &Figures, reference: &Figures) -> f64 {
    subject.p50_ms.unwrap_or(f64::NAN) / reference.p50_ms.unwrap_or(f64::NAN)
}

/// Runs a statement for the time of a measurement.
fn directly(stage: &mut Stage, what: &mut impl Direct) -> anyhow::Result<Figures> {
    stage.calm()?;
    let before = Before::now(None, stage.database.process);
    let mut seen = direct::alone(&mut stage.database, stage.time, what)?;
    Ok(Figures {
        rate: seen.rate,
        p50_ms: seen.latencies.percentile(50),
        p99_ms: seen.latencies.percentile(99),
        usage: before.until_now(),
        ..Figures::default()
    })
}

#[derive(Default)]
pub(super) struct Create {
    asking: Vec<Creates>,
}

impl Row for Create {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        self.asking = vec![Creates::new(&stage.app, 5)];
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        directly(stage, &mut direct::Create::by(&stage.app)?)
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        Ok(Figures::of_load(stage.load(None, &mut self.asking, 1)?))
    }

    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        p50(subject, reference)
    }
}

#[derive(Default)]
pub(super) struct Update {
    direct: Option<direct::Change>,
    asking: Vec<Updates>,
}

impl Row for Update {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let (number, count) = sets::ALONE;
        let ours = stage.set(number, count)?;
        // The first change of a session that is not in memory reads it, which is another statement.
        stage.load(None, &mut Gets::of(&stage.app, &ours, ours.count, 1), 1)?;
        self.asking = Updates::of(&stage.app, &ours, 1, 1);
        let (number, count) = sets::ALONE_BY_REFERENCE;
        let theirs = stage.set(number, count)?;
        self.direct = Some(direct::Change::of(&stage.app, &theirs, &mut stage.database)?);
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        directly(stage, self.direct.as_mut().context("not prepared")?)
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        Ok(Figures::of_load(stage.load(None, &mut self.asking, 1)?))
    }

    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        p50(subject, reference)
    }
}

#[derive(Default)]
pub(super) struct Get {
    cached: bool,
    direct: Option<direct::Get>,
    server: Option<Server>,
    asking: Vec<Gets>,
}

impl Get {
    /// As Muster is by default, of sessions that are read more than once.
    pub(super) fn cached() -> Self {
        Self { cached: true, ..Self::default() }
    }

    /// Without a cache.
    pub(super) fn cold() -> Self {
        Self::default()
    }
}

impl Row for Get {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let (number, count) = sets::READ;
        let set = stage.set(number, count)?;
        let read = if self.cached { CACHED } else { count };
        self.asking = Gets::of(&stage.app, &set, read, 1);
        self.direct = Some(direct::Get::of(&set)?);
        if !self.cached {
            self.server = Some(uncached(stage)?);
        }
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        directly(stage, self.direct.as_mut().context("not prepared")?)
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        Ok(Figures::of_load(stage.load(self.server.as_ref(), &mut self.asking, 1)?))
    }

    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        p50(subject, reference)
    }
}
