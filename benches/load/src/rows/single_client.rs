//! One client without concurrent requests: group commit must not slow it.
//!
//! Compared with the straightforward service, which runs the same statement through sqlx in its
//! handler, and with the statement alone. The first comparison shows the cost of group commit and
//! of all other work that Muster does and a small handler does not. The second shows the cost of a
//! service between client and database: HTTP and the wake-up of another process.

use anyhow::Context as _;

use super::reads::{CACHED, start_uncached_server};
use super::row::{Figures, Row, SLICES};
use crate::direct::{self, DirectStatement};
use crate::environment::Environment;
use crate::generator::Script;
use crate::scripts::{Creates, Gets, Updates};
use crate::seed::{Set, sets};
use crate::server::Server;
use crate::usage::UsageMeter;

/// The reference of a row.
#[derive(Clone, Copy)]
pub(super) enum Reference {
    /// The straightforward service.
    Service,
    /// The statement alone, run by the load itself.
    Statement,
}

/// The work of one client on one side, for the duration of a measurement.
type Measurement = Box<dyn FnMut(&mut Environment) -> anyhow::Result<Figures>>;

/// Both sides.
struct Sides {
    reference: Measurement,
    subject: Measurement,
}

/// Prepares both sides.
type Setup = Box<dyn Fn(&mut Environment) -> anyhow::Result<Sides>>;

/// One client.
pub(super) struct SingleClient {
    setup: Setup,
    sides: Option<Sides>,
}

impl SingleClient {
    fn new(setup: impl Fn(&mut Environment) -> anyhow::Result<Sides> + 'static) -> Self {
        Self { setup: Box::new(setup), sides: None }
    }

    fn sides(&mut self) -> anyhow::Result<&mut Sides> {
        self.sides.as_mut().context("not prepared")
    }

    /// Creates sessions of five.
    pub(super) fn creates(reference: Reference) -> Self {
        Self::new(move |env| {
            let creates = |env: &Environment| vec![Creates::new(&env.app, 5)];
            let reference = match reference {
                Reference::Service => {
                    load_from(Some(env.start_straightforward_service()?), creates(env))
                }
                Reference::Statement => statements(direct::CreateStatement::new(&env.app)?),
            };
            let subject = load_from(None, creates(env));
            env.vacuum()?;
            Ok(Sides { reference, subject })
        })
    }

    /// Changes sessions that were read before. The first change of a session that is not in memory
    /// reads it, which is another statement.
    pub(super) fn updates(reference: Reference) -> Self {
        Self::new(move |env| {
            let subject_set = set_of(env, reference, sets::ALONE)?;
            let reference_set = set_of(env, reference, sets::ALONE_BY_REFERENCE)?;
            let read = |env: &mut Environment, server: Option<&Server>, set: &Set| {
                let mut gets = Gets::for_set(&env.app, set, set.count, 1);
                env.load(server, &mut gets, 1)
            };
            let reference = match reference {
                Reference::Service => {
                    let server = env.start_straightforward_service()?;
                    read(env, Some(&server), &reference_set)?;
                    load_from(Some(server), Updates::for_set(&env.app, &reference_set, 1, 1))
                }
                Reference::Statement => {
                    let app = env.app.clone();
                    let database = &mut env.database;
                    statements(direct::UpdateStatement::new(&app, &reference_set, database)?)
                }
            };
            read(env, None, &subject_set)?;
            let subject = load_from(None, Updates::for_set(&env.app, &subject_set, 1, 1));
            env.vacuum()?;
            Ok(Sides { reference, subject })
        })
    }

    /// Reads sessions more than once, with Muster's default cache.
    pub(super) fn gets(reference: Reference) -> Self {
        Self::new(move |env| reads(env, reference, CACHED, None))
    }

    /// Reads sessions without Muster's cache.
    pub(super) fn cold_gets(reference: Reference) -> Self {
        Self::new(move |env| {
            let server = start_uncached_server(env)?;
            reads(env, reference, sets::READ.1, Some(server))
        })
    }
}

impl Row for SingleClient {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        self.sides = Some((self.setup)(env)?);
        Ok(())
    }

    fn slices(&self) -> u32 {
        SLICES
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        (self.sides()?.reference)(env)
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        (self.sides()?.subject)(env)
    }

    /// The ratio of the p50: smaller is better.
    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        subject.latencies.percentile(50) / reference.latencies.percentile(50)
    }

    fn smaller_is_better(&self) -> bool {
        true
    }
}

/// Sends the requests of a script to a server, or to Muster if no server is given.
fn load_from(server: Option<Server>, mut script: Vec<impl Script + 'static>) -> Measurement {
    Box::new(move |env| Ok(Figures::from_load(env.load(server.as_ref(), &mut script, 1)?)))
}

/// Runs a statement repeatedly.
fn statements(mut statement: impl DirectStatement + 'static) -> Measurement {
    Box::new(move |env| {
        let meter = UsageMeter::start(None, env.database.process);
        let result = direct::run_for(&mut env.database, env.time, &mut statement)?;
        Ok(Figures {
            rate: result.rate,
            latencies: result.latencies,
            usage: meter.stop(),
            ..Figures::default()
        })
    })
}

/// Reads the first `count` sessions of the read set from `server`, or from Muster if no server is
/// given.
fn reads(
    env: &mut Environment,
    reference: Reference,
    count: u64,
    server: Option<Server>,
) -> anyhow::Result<Sides> {
    let (number, all) = sets::READ;
    let set = env.set(number, all)?;
    let reference = match reference {
        Reference::Service => {
            let service = env.start_straightforward_service()?;
            load_from(Some(service), Gets::for_set(&env.app, &set, count, 1))
        }
        Reference::Statement => statements(direct::ReadStatement::new(&set)?),
    };
    let subject = load_from(server, Gets::for_set(&env.app, &set, count, 1));
    Ok(Sides { reference, subject })
}

/// A separate set for each comparison, so that the members are as created.
fn set_of(
    env: &mut Environment,
    reference: Reference,
    sets: [(u64, u64); 2],
) -> anyhow::Result<Set> {
    let [(number, count), (other, _)] = sets;
    match reference {
        Reference::Service => env.set(number, count),
        Reference::Statement => env.set(other, count),
    }
}
