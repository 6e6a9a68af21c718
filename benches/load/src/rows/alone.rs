//! One client with nobody beside it: what coalescing must not cost.

use anyhow::Context as _;

use super::reads::{CACHED, uncached};
use super::{Figures, Row, prefix_of_now, sets, values};
use crate::accounts;
use crate::direct;
use crate::scripts::{Creates, Gets, STRIDE, Updates};
use crate::seed::Set;
use crate::server::Server;
use crate::stage::Stage;
use crate::statement::Work;
use crate::usage::Before;

/// p50 by p50: smaller is better.
fn p50(subject: &Figures, reference: &Figures) -> f64 {
    subject.p50_ms.unwrap_or(f64::NAN) / reference.p50_ms.unwrap_or(f64::NAN)
}

/// Runs a statement for the time of a measurement, for sessions that `next` gives: number, first
/// account, version.
fn directly(
    stage: &mut Stage,
    work: Work,
    prefix: &str,
    mut next: impl FnMut() -> (u64, u64, u64),
) -> anyhow::Result<Figures> {
    stage.calm()?;
    let common = values(stage, prefix);
    let before = Before::now(None, stage.database.process);
    let statement = stage.statements.of(work).to_owned();
    let must_give = work != Work::Create;
    let mut seen = direct::alone(&mut stage.database, &statement, must_give, stage.time, || {
        let (number, first, version) = next();
        let mut values = common.clone();
        values.extend([("n", number.to_string()), ("v", version.to_string())]);
        let places = ["a1", "a2", "a3", "a4", "a5"].into_iter().zip(0..);
        values
            .extend(places.map(|(name, place)| (name, accounts::number(first, place).to_string())));
        values
    })?;
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
        let mut number = 0;
        directly(stage, Work::Create, &prefix_of_now(), || {
            number += 1;
            (number, accounts::any_first(), 1)
        })
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
    set: Option<Set>,
    asking: Vec<Updates>,
    made: u64,
}

impl Row for Update {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let (number, count) = sets::ALONE;
        let ours = stage.set(number, count)?;
        self.asking = Updates::of(&stage.app, &ours, 1, 1);
        let (number, count) = sets::ALONE_BY_REFERENCE;
        self.set = Some(stage.set(number, count)?);
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let set = self.set.as_ref().context("not prepared")?;
        let made = &mut self.made;
        directly(stage, Work::Update, &set.prefix, || {
            let number = *made * STRIDE % set.count;
            let version = *made / set.count + 1;
            *made += 1;
            (number, accounts::first_of(number), version)
        })
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
    set: Option<Set>,
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
        self.set = Some(set);
        if !self.cached {
            self.server = Some(uncached(stage)?);
        }
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let set = self.set.as_ref().context("not prepared")?;
        let mut at = 0;
        directly(stage, Work::Get, &set.prefix, || {
            at += 1;
            (at * STRIDE % set.count, 0, 1)
        })
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        Ok(Figures::of_load(stage.load(self.server.as_ref(), &mut self.asking, 1)?))
    }

    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        p50(subject, reference)
    }
}
