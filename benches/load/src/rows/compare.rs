//! Comparisons of a copy with the sessions.

use std::time::Instant;

use anyhow::ensure;
use sqlx::Row as _;
use uuid::Uuid;

use super::row::{Figures, Row};
use crate::comparison::Comparison;
use crate::environment::Environment;
use crate::generator::float;
use crate::seed::sets;
use crate::usage::UsageMeter;

/// How often a request names each session.
const REPETITIONS: u64 = 4;
/// The number of ids in a statement of the reference.
const STATEMENT: usize = 2_000;

/// A comparison, sent again and again.
#[derive(Default)]
pub(super) struct Compare {
    comparison: Comparison,
}

impl Row for Compare {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        let (number, count) = sets::READ;
        let set = env.set(number, count)?;
        self.comparison = Comparison::new(env, &set, REPETITIONS)?;
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let meter = UsageMeter::start(None, env.database.process);
        let (started_at, mut compared) = (Instant::now(), 0);
        while started_at.elapsed() < env.time {
            let differing = self.compare_in_sql(env)?;
            ensure!(differing == self.comparison.differing, "{differing} pairs differ");
            compared += self.comparison.pairs.len() as u64;
        }
        Ok(Figures::from_rate(float(compared) / started_at.elapsed().as_secs_f64(), meter.stop()))
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let meter = UsageMeter::start(Some(env.process()), env.database.process);
        let (started_at, mut compared) = (Instant::now(), 0);
        let mut failure = None;
        while started_at.elapsed() < env.time {
            failure = self.comparison.send(env.port())?.or(failure);
            compared += self.comparison.pairs.len() as u64;
        }
        let rate = float(compared) / started_at.elapsed().as_secs_f64();
        let mut figures = Figures::from_rate(rate, meter.stop());
        if let Some(failure) = failure {
            figures.add_failure(failure);
        }
        Ok(figures)
    }
}

impl Compare {
    /// Looks up the versions of all pairs, and returns the number of those that differ.
    fn compare_in_sql(&self, env: &mut Environment) -> anyhow::Result<u64> {
        let buin = env.app.buin;
        let connection = &mut env.database.connection;
        env.database.runtime.block_on(async {
            let mut differing = 0;
            for part in self.comparison.pairs.chunks(STATEMENT) {
                let (ids, versions): (Vec<Uuid>, Vec<i64>) = part.iter().copied().unzip();
                let sql = "select count(*) from unnest($1::uuid[], $2::bigint[]) as item (id, known) \
                           left join session on session_id = id and buin = $3 \
                           where version is distinct from known";
                let query = sqlx::query(sql).bind(&ids).bind(&versions).bind(buin);
                let count: i64 = query.fetch_one(&mut *connection).await?.try_get(0)?;
                differing += u64::try_from(count)?;
            }
            Ok(differing)
        })
    }
}
