//! Creates and updates under load.

use anyhow::Context as _;

use super::row::{CLIENTS, CONNECTIONS, Figures, Row, THREADS, current_id_prefix, values};
use crate::environment::Environment;
use crate::scripts::{Creates, HotSessionUpdates, Updates};
use crate::seed::{Set, sets};

#[derive(Default)]
pub(super) struct Create {
    scripts: Vec<Creates>,
}

impl Row for Create {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        self.scripts = (0..THREADS).map(|_| Creates::new(&env.app, 5)).collect();
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let values = values(env, &current_id_prefix());
        let (result, usage) = env.pgbench(&env.statements.create_script(), CLIENTS, &values)?;
        Ok(Figures::from_rate(result.rate, usage))
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        Ok(Figures::from_load(env.load(None, &mut self.scripts, CONNECTIONS / THREADS)?))
    }
}

#[derive(Default)]
pub(super) struct Update {
    sets: Option<(Set, Set)>,
    scripts: Vec<Updates>,
}

impl Row for Update {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        let (number, count) = sets::UPDATED;
        let subject_set = env.set(number, count)?;
        let (number, count) = sets::UPDATED_BY_REFERENCE;
        self.scripts = Updates::for_set(&env.app, &subject_set, THREADS, CONNECTIONS / THREADS);
        self.sets = Some((subject_set, env.set(number, count)?));
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let (_, set) = self.sets.as_ref().context("not prepared")?;
        run_guarded_updates(env, set, CLIENTS, set.count / CLIENTS)
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let (set, _) = self.sets.as_ref().context("not prepared")?;
        let before = count_updates(env, set)?;
        let result = env.load(None, &mut self.scripts, CONNECTIONS / THREADS)?;
        let acknowledged = result.0.acknowledged;
        let mut figures = Figures::from_load(result);
        let made = count_updates(env, set)? - before;
        // The outcome of a failed update is unknown.
        if figures.failed == 0 && made != acknowledged {
            figures.add_failure(format!("{acknowledged} updates acknowledged, {made} made"));
        }
        Ok(figures)
    }
}

#[derive(Default)]
pub(super) struct HotSession {
    sets: Option<(Set, Set)>,
    scripts: Vec<HotSessionUpdates>,
    acknowledged: u64,
    failed: bool,
}

impl Row for HotSession {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        let (number, count) = sets::HOT;
        let subject_set = env.set(number, count)?;
        let (number, count) = sets::HOT_BY_REFERENCE;
        let app = &env.app;
        self.scripts = (0..THREADS as u64)
            .map(|series| {
                HotSessionUpdates::new(app, &subject_set, 0, CONNECTIONS / THREADS, series)
            })
            .collect();
        self.sets = Some((subject_set, env.set(number, count)?));
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let (_, set) = self.sets.as_ref().context("not prepared")?;
        run_guarded_updates(env, set, 1, 1)
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let (set, _) = self.sets.as_ref().context("not prepared")?;
        let result = env.load(None, &mut self.scripts, CONNECTIONS / THREADS)?;
        self.acknowledged += result.0.acknowledged;
        let mut figures = Figures::from_load(result);
        self.failed |= figures.failed > 0;
        let id = set.id(0);
        let query = |column: &str, table: &str| {
            format!("select {column} from {table} where session_id = '{id}'")
        };
        let version = env.database.number(&query("version", "session"))?;
        let last = env.database.number(&query("max(version)", "session_event"))?;
        let events = env.database.number(&query("count(*)", "session_event"))?;
        if version != last || version != events {
            figures.add_failure(format!("version {version}, last event {last}, {events} events"));
        }
        if !self.failed && i64::try_from(self.acknowledged)? != version - 1 {
            let acknowledged = self.acknowledged;
            figures.add_failure(format!("{acknowledged} updates acknowledged, version {version}"));
        }
        Ok(figures)
    }
}

/// The reference: guarded updates of a set by pgbench, with `slots` sessions for each client.
fn run_guarded_updates(
    env: &mut Environment,
    set: &Set,
    clients: u64,
    slots: u64,
) -> anyhow::Result<Figures> {
    let mut values = values(env, &set.prefix);
    values.push(("slots", slots.to_string()));
    let before = count_updates(env, set)?;
    let (result, usage) = env.pgbench(&env.statements.update_script(), clients, &values)?;
    let made = count_updates(env, set)? - before;
    let mut figures = Figures::from_rate(result.rate, usage);
    // An update that found another version would be cheaper than one that wrote.
    if made != result.transactions {
        let transactions = result.transactions;
        figures.add_failure(format!("{transactions} transactions of pgbench made {made} updates"));
    }
    Ok(figures)
}

/// The number of updates of a set.
fn count_updates(env: &mut Environment, set: &Set) -> anyhow::Result<u64> {
    let (first, last) = (set.id(0), set.id(set.count - 1));
    let sql = format!(
        "select coalesce(sum(version - 1), 0)::bigint from session \
         where session_id between '{first}' and '{last}'"
    );
    Ok(env.database.number(&sql)?.try_into()?)
}
