//! Muster's statements, one after the other on one connection: the time of a request if only the
//! database took time.
//!
//! The functions are Muster's own: the same statement, prepared, bound and read by sqlx, on a
//! connection with the same settings. Their arguments are made before the clock starts.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use muster::clock::Clock;
use muster::domain::{
    Account, Action, AppId, Attributes, Buin, NewSession, RemovePolicy, Request, Rules, Session,
    SessionId, Title, Update,
};
use muster::repository::sessions::{
    self, ChangeSet, NewSessionRecord, Provenance, VersionedChange,
};
use sqlx::postgres::PgConnection;
use uuid::{NoContext, Timestamp, Uuid};

use crate::accounts;
use crate::app::{self, App};
use crate::database::Database;
use crate::generator::float;
use crate::latency::Latencies;
use crate::seed::Set;

/// A request without reason, key or trace.
pub fn provenance<'a>(app_id: &'a AppId, operator: &'a Account) -> Provenance<'a> {
    Provenance { app_id, operator, reason: None, key: None, trace: None }
}

/// The default rules without a minimum of members.
pub const RULES: Rules = Rules {
    min_members: 1,
    min_remaining: 1,
    max_members: 2_000,
    remove_members: RemovePolicy::Owner,
};

/// The result of repeated runs of a statement.
#[derive(Debug)]
pub struct StatementResult {
    /// Statements per second, including the time to make their arguments.
    pub rate: f64,
    /// The latency of each statement.
    pub latencies: Latencies,
}

/// A statement that can be run repeatedly.
pub trait DirectStatement {
    /// Runs the statement with new values and returns its duration.
    fn run(
        &mut self,
        connection: &mut PgConnection,
    ) -> impl Future<Output = anyhow::Result<Duration>>;
}

/// Runs the statement repeatedly for `time`.
///
/// # Errors
/// If one run fails.
pub fn run_for(
    database: &mut Database,
    time: Duration,
    statement: &mut impl DirectStatement,
) -> anyhow::Result<StatementResult> {
    // The setting of Muster's own connections.
    database.run("set plan_cache_mode = force_generic_plan")?;
    let Database { runtime, connection, .. } = database;
    let mut latencies = Latencies::default();
    let mut count = 0;
    runtime.block_on(async {
        let started_at = Instant::now();
        while started_at.elapsed() < time {
            latencies.push(statement.run(connection).await?);
            count += 1;
        }
        anyhow::Ok(())
    })?;
    database.run("reset plan_cache_mode")?;
    Ok(StatementResult { rate: float(count) / time.as_secs_f64(), latencies })
}

/// Creates sessions of five members.
pub struct CreateStatement {
    buin: Buin,
    app_id: AppId,
}

impl CreateStatement {
    /// The app that creates the sessions.
    ///
    /// # Errors
    /// If the ids of the app are invalid.
    pub fn new(app: &App) -> anyhow::Result<Self> {
        Ok(Self { buin: Buin::new(app.buin)?, app_id: app.id.parse()? })
    }
}

impl DirectStatement for CreateStatement {
    async fn run(&mut self, connection: &mut PgConnection) -> anyhow::Result<Duration> {
        let first = accounts::random_first();
        let members = accounts::members(first, 5);
        let members =
            members.iter().map(|text| Account::new(text)).collect::<Result<Vec<_>, _>>()?;
        let new = NewSession {
            title: Title::new(&app::title(first))?,
            creator: members[0].clone(),
            members,
            attributes: Attributes::default(),
            reason: None,
        };
        let at = Clock::system().now();
        let session = Session::create(new_id(at)?, self.buin, new, &RULES, at)?;
        let record = NewSessionRecord {
            session: &session,
            provenance: provenance(&self.app_id, &session.owner),
        };
        let started_at = Instant::now();
        sessions::insert(connection, &[record], None).await?;
        Ok(started_at.elapsed())
    }
}

/// Updates each session of a set in turn: one member in, another out.
pub struct UpdateStatement {
    app_id: AppId,
    sessions: Vec<Session>,
    next: usize,
}

impl UpdateStatement {
    /// Reads the sessions that the app will update.
    ///
    /// # Errors
    /// If the sessions cannot be read.
    pub fn new(app: &App, set: &Set, database: &mut Database) -> anyhow::Result<Self> {
        let ids: Vec<SessionId> = ids(set)?;
        let Database { runtime, connection, .. } = database;
        let found = runtime.block_on(sessions::find(connection, &ids))?;
        let sessions = found.into_iter().map(|(_, session)| session).collect::<Result<_, _>>()?;
        Ok(Self { app_id: app.id.parse()?, sessions, next: 0 })
    }
}

impl DirectStatement for UpdateStatement {
    async fn run(&mut self, connection: &mut PgConnection) -> anyhow::Result<Duration> {
        let index = self.next;
        self.next = (index + 1) % self.sessions.len();
        let session = &self.sessions[index];
        let last = session.members.last().context("the session has no members")?;
        let added = match last.as_str().strip_prefix('x') {
            Some(digits) => format!("u{digits}"),
            None => last.as_str().replace('u', "x"),
        };
        let update = Update::for_members(vec![Account::new(&added)?], vec![last.clone()])?;
        let operator = session.owner.clone();
        let request = Request::for_member(operator.clone(), Action::Update(update));
        let change = session.decide(&request, &RULES, Clock::system().now())?;
        let change = change.context("nothing to change")?;
        let step =
            VersionedChange { change: &change, provenance: provenance(&self.app_id, &operator) };
        let change_set = ChangeSet { before: session, steps: vec![step] };
        let started_at = Instant::now();
        let written = sessions::update_if_version(connection, &[change_set], None).await?;
        let elapsed = started_at.elapsed();
        anyhow::ensure!(written.len() == 1, "{} sessions written instead of one", written.len());
        self.sessions[index] = change.after;
        Ok(elapsed)
    }
}

/// Reads the sessions of a set.
pub struct ReadStatement {
    ids: Vec<SessionId>,
    next: usize,
}

impl ReadStatement {
    /// The set of which the sessions are read.
    ///
    /// # Errors
    /// If the ids are invalid.
    pub fn new(set: &Set) -> anyhow::Result<Self> {
        Ok(Self { ids: ids(set)?, next: 0 })
    }
}

impl DirectStatement for ReadStatement {
    async fn run(&mut self, connection: &mut PgConnection) -> anyhow::Result<Duration> {
        let id = self.ids[self.next];
        self.next = (self.next + accounts::VISIT_STRIDE as usize) % self.ids.len();
        let started_at = Instant::now();
        let found = sessions::find(connection, &[id]).await?;
        let elapsed = started_at.elapsed();
        anyhow::ensure!(found.len() == 1, "{} sessions instead of one", found.len());
        Ok(elapsed)
    }
}

/// A UUID v7 of this time.
///
/// # Errors
/// If the time is before 1970.
pub fn new_id(at: DateTime<Utc>) -> anyhow::Result<SessionId> {
    let (seconds, nanos) = (at.timestamp().try_into()?, at.timestamp_subsec_nanos());
    Ok(SessionId::new(Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, nanos))))
}

fn ids(set: &Set) -> anyhow::Result<Vec<SessionId>> {
    (0..set.count).map(|n| Ok(set.id(n).parse()?)).collect()
}
