//! Creates and updates under load.

use anyhow::Context as _;

use super::row::{CLIENTS, CONNECTIONS, Figures, Row, THREADS, prefix_of_now, values};
use crate::scripts;
use crate::scripts::{Creates, Updates};
use crate::seed::{Set, sets};
use crate::stage::Stage;

#[derive(Default)]
pub(super) struct Create {
    asking: Vec<Creates>,
}

impl Row for Create {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        self.asking = (0..THREADS).map(|_| Creates::new(&stage.app, 5)).collect();
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let values = values(stage, &prefix_of_now());
        let (done, usage) = stage.pgbench(&stage.statements.create_script(), CLIENTS, &values)?;
        Ok(Figures::of_rate(done.rate, usage))
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        Ok(Figures::of_load(stage.load(None, &mut self.asking, CONNECTIONS / THREADS)?))
    }
}

#[derive(Default)]
pub(super) struct Update {
    sets: Option<(Set, Set)>,
    asking: Vec<Updates>,
}

impl Row for Update {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let (number, count) = sets::UPDATED;
        let ours = stage.set(number, count)?;
        let (number, count) = sets::UPDATED_BY_REFERENCE;
        self.asking = Updates::of(&stage.app, &ours, THREADS, CONNECTIONS / THREADS);
        self.sets = Some((ours, stage.set(number, count)?));
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let (_, set) = self.sets.as_ref().context("not prepared")?;
        guarded(stage, set, CLIENTS, set.count / CLIENTS)
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let (set, _) = self.sets.as_ref().context("not prepared")?;
        let before = changes(stage, set)?;
        let seen = stage.load(None, &mut self.asking, CONNECTIONS / THREADS)?;
        let acknowledged = seen.0.acknowledged;
        let mut figures = Figures::of_load(seen);
        let made = changes(stage, set)? - before;
        // The outcome of a failed update is unknown.
        if figures.failed == 0 && made != acknowledged {
            figures.wrong(format!("{acknowledged} updates acknowledged, {made} made"));
        }
        Ok(figures)
    }
}

#[derive(Default)]
pub(super) struct Hot {
    sets: Option<(Set, Set)>,
    asking: Vec<scripts::Hot>,
    acknowledged: u64,
    failed: bool,
}

impl Row for Hot {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let (number, count) = sets::HOT;
        let ours = stage.set(number, count)?;
        let (number, count) = sets::HOT_BY_REFERENCE;
        let app = &stage.app;
        self.asking = (0..THREADS as u64)
            .map(|series| scripts::Hot::new(app, &ours, 0, CONNECTIONS / THREADS, series))
            .collect();
        self.sets = Some((ours, stage.set(number, count)?));
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let (_, set) = self.sets.as_ref().context("not prepared")?;
        guarded(stage, set, 1, 1)
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let (set, _) = self.sets.as_ref().context("not prepared")?;
        let seen = stage.load(None, &mut self.asking, CONNECTIONS / THREADS)?;
        self.acknowledged += seen.0.acknowledged;
        let mut figures = Figures::of_load(seen);
        self.failed |= figures.failed > 0;
        let id = set.id(0);
        let one = |column: &str, table: &str| {
            format!("select {column} from {table} where session_id = '{id}'")
        };
        let version = stage.database.number(&one("version", "session"))?;
        let last = stage.database.number(&one("max(version)", "session_event"))?;
        let events = stage.database.number(&one("count(*)", "session_event"))?;
        if version != last || version != events {
            figures.wrong(format!("version {version}, last event {last}, {events} events"));
        }
        if !self.failed && i64::try_from(self.acknowledged)? != version - 1 {
            let acknowledged = self.acknowledged;
            figures.wrong(format!("{acknowledged} updates acknowledged, version {version}"));
        }
        Ok(figures)
    }
}

/// The reference: guarded updates of a set by pgbench, with `slots` sessions for each client.
fn guarded(stage: &mut Stage, set: &Set, clients: u64, slots: u64) -> anyhow::Result<Figures> {
    let mut values = values(stage, &set.prefix);
    values.push(("slots", slots.to_string()));
    let before = changes(stage, set)?;
    let (done, usage) = stage.pgbench(&stage.statements.update_script(), clients, &values)?;
    let made = changes(stage, set)? - before;
    let mut figures = Figures::of_rate(done.rate, usage);
    // An update that found another version would be cheaper than one that wrote.
    if made != done.transactions {
        figures.wrong(format!("{} transactions of pgbench made {made} updates", done.transactions));
    }
    Ok(figures)
}

/// The number of updates of a set.
fn changes(stage: &mut Stage, set: &Set) -> anyhow::Result<u64> {
    let (first, last) = (set.id(0), set.id(set.count - 1));
    let sql = format!(
        "select coalesce(sum(version - 1), 0)::bigint from session \
         where session_id between '{first}' and '{last}'"
    );
    Ok(stage.database.number(&sql)?.try_into()?)
}
