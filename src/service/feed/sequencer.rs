//! Numbers the changes of all servers, on one server at a time.
//!
//! The leader is the server whose connection holds a lock of PostgreSQL. It moves all changes that
//! are visible into the feed, many times in a second. The others try to get the lock, and watch the
//! oldest change that waits. If it waits too long, the leader has stopped or is unreachable, and its
//! session is ended: PostgreSQL would notice the loss of its host only minutes later.
//!
//! The surprise: a failed statement needs no repair. Its changes are either numbered or still wait,
//! and the lock ends together with the connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::outbox_floor::OutboxFloor;
use crate::metrics::Metrics;
use crate::repository::connections::dedicated_connection::DedicatedConnection;
use crate::repository::connections::pool::PoolLimits;
use crate::repository::feed;
use crate::repository::{Connection, Error, Pool, ServerConnection};
use crate::service::Sessions;
use crate::telemetry::cause_chain;

/// The maximum time that a step waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The least pause between two ticks, so that changes share a tick.
const MIN_TICK_INTERVAL: Duration = Duration::from_millis(5);
/// The interval between two ticks while other servers make changes.
const BUSY_TICK_INTERVAL: Duration = Duration::from_millis(10);
/// The interval between two ticks without changes.
const IDLE_TICK_INTERVAL: Duration = Duration::from_millis(50);
/// The time without changes after which the interval is the longer one.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// The interval between two attempts to become the leader.
const STANDBY_INTERVAL: Duration = Duration::from_millis(250);
/// The time after which a leader that leaves the oldest change waiting is ended.
const LEADER_TIMEOUT: Duration = Duration::from_millis(500);
/// The interval between two polls of a feed that is switched off.
const SWITCHED_OFF_INTERVAL: Duration = Duration::from_secs(1);

/// Numbers changes, or waits until it may.
struct Sequencer {
    dedicated: DedicatedConnection,
    metrics: Arc<Metrics>,
    floor: OutboxFloor,
    role: SequencerRole,
    /// The generation of the connection to which the floor and the role belong.
    generation: usize,
}

/// The part of this server.
enum SequencerRole {
    /// Another server numbers changes, or no server.
    Standby(Option<WaitingChange>),
    /// This server numbers changes. The time is that of the last tick that found changes.
    Leader(Option<Instant>),
}

/// The oldest change that waited, and the process of the leader at that time.
#[derive(Clone, Copy)]
struct WaitingChange {
    id: Uuid,
    leader: i32,
    seen_at: Instant,
}

impl Sessions {
    /// Numbers the changes of all servers while this server is the leader. Never completes.
    pub async fn run_sequencer(&self) {
        let shared = self.shared();
        let mut sequencer = Sequencer::new(&shared.pool, shared.limits, shared.metrics.clone());
        let mut error_logged = false;
        loop {
            let (started_at, numbered_at) = (Instant::now(), sequencer.numbered_at());
            let interval = match sequencer.step().await {
                Ok(interval) => {
                    error_logged = false;
                    interval
                }
                Err(error) => {
                    shared.metrics.feed.failures.inc();
                    if !error_logged {
                        tracing::warn!(
                            error = %cause_chain(&error),
                            "cannot number the changes of sessions"
                        );
                    }
                    error_logged = true;
                    STANDBY_INTERVAL
                }
            };
            shared.feed_hub.set_leader(sequencer.is_leader());
            if sequencer.numbered_at() != numbered_at {
                shared.feed_hub.wake();
            }
            // Changes that arrive during a long tick share the next one, and the database has time
            // for the requests.
            let pause = started_at.elapsed().clamp(MIN_TICK_INTERVAL, IDLE_TICK_INTERVAL);
            tokio::time::sleep(pause).await;
            let next_at = started_at + interval;
            if sequencer.is_leader() {
                let _ = timeout_at(next_at, shared.change_written.notified()).await;
            } else {
                tokio::time::sleep_until(next_at).await;
            }
        }
    }
}

impl Sequencer {
    fn new(pool: &Pool, limits: PoolLimits, metrics: Arc<Metrics>) -> Self {
        Self {
            dedicated: DedicatedConnection::for_sequencing(pool, limits, metrics.clone()),
            metrics,
            floor: OutboxFloor::default(),
            role: SequencerRole::Standby(None),
            generation: 0,
        }
    }

    fn is_leader(&self) -> bool {
        matches!(self.role, SequencerRole::Leader(_))
    }

    /// The time of the last tick that numbered changes, if this server is the leader.
    fn numbered_at(&self) -> Option<Instant> {
        match self.role {
            SequencerRole::Leader(numbered_at) => numbered_at,
            SequencerRole::Standby(_) => None,
        }
    }

    /// Numbers the changes that wait, or tries to become the leader. Returns the interval until the
    /// next step.
    ///
    /// # Errors
    /// The database fails. The connection is closed, and the lock with it.
    async fn step(&mut self) -> Result<Duration, Error> {
        let acquired = self.dedicated.acquire(Instant::now() + CONNECT_TIMEOUT).await;
        if self.generation != self.dedicated.generation() || acquired.is_err() {
            // The lock ended with the connection before.
            self.generation = self.dedicated.generation();
            self.floor = OutboxFloor::default();
            self.set_role(SequencerRole::Standby(None));
        }
        let connection = acquired?;
        let Self { dedicated, metrics, floor, role, .. } = self;
        let working = dedicated.run_with(floor, connection, |mut connection, floor| async {
            let done = work(&mut connection, floor, role, metrics).await;
            (connection, floor, done)
        });
        match working.await {
            Ok((role, interval)) => {
                self.set_role(role);
                Ok(interval)
            }
            Err(error) => {
                self.dedicated.close();
                self.set_role(SequencerRole::Standby(None));
                Err(error)
            }
        }
    }

    fn set_role(&mut self, role: SequencerRole) {
        self.role = role;
        self.metrics.feed.set_leader(self.is_leader());
    }
}

async fn work(
    connection: &mut ServerConnection,
    floor: &mut OutboxFloor,
    role: &SequencerRole,
    metrics: &Metrics,
) -> Result<(SequencerRole, Duration), Error> {
    // Through a pooler, the lock ends with the transaction, and each tick needs it anew.
    let is_transaction = connection.is_in_transaction();
    match role {
        SequencerRole::Leader(_)
            if is_transaction && feed::try_lead_in_transaction(connection).await? != Some(true) =>
        {
            Ok((SequencerRole::Standby(None), STANDBY_INTERVAL))
        }
        SequencerRole::Leader(changed_at) => {
            let changed_at = tick(connection, floor, metrics).await?.or(*changed_at);
            let is_busy = changed_at.is_some_and(|at| at.elapsed() < IDLE_AFTER);
            let interval = if is_busy { BUSY_TICK_INTERVAL } else { IDLE_TICK_INTERVAL };
            Ok((SequencerRole::Leader(changed_at), interval))
        }
        SequencerRole::Standby(waiting) => match try_lead(connection).await? {
            None => Ok((SequencerRole::Standby(None), SWITCHED_OFF_INTERVAL)),
            Some(true) => {
                tracing::debug!("this server numbers the changes of sessions");
                // The floor ends at the time up to which this server has read as a standby.
                *floor = OutboxFloor::default();
                let changed_at = tick(connection, floor, metrics).await?;
                Ok((SequencerRole::Leader(changed_at), BUSY_TICK_INTERVAL))
            }
            Some(false) => {
                let (waiting, interval) = watch(connection, floor, *waiting, metrics).await?;
                Ok((SequencerRole::Standby(waiting), interval))
            }
        },
    }
}

async fn try_lead(connection: &mut ServerConnection) -> Result<Option<bool>, Error> {
    match connection.is_in_transaction() {
        true => feed::try_lead_in_transaction(connection).await,
        false => feed::try_lead(connection).await,
    }
}

/// Numbers all changes that wait. Returns the time if there were any.
async fn tick(
    connection: &mut Connection,
    floor: &mut OutboxFloor,
    metrics: &Metrics,
) -> Result<Option<Instant>, Error> {
    let from = floor.before_read(connection).await?;
    let batch = feed::sequence(connection, from).await?;
    floor.after_read(None);
    metrics.feed.sequenced.add(batch.count);
    metrics.feed.set_head(batch.head.change_count());
    metrics.feed.set_lag(batch.oldest_age.unwrap_or_default());
    Ok((batch.count > 0).then(Instant::now))
}

/// Checks whether the leader works, and ends its session if it does not.
async fn watch(
    connection: &mut Connection,
    floor: &mut OutboxFloor,
    before: Option<WaitingChange>,
    metrics: &Metrics,
) -> Result<(Option<WaitingChange>, Duration), Error> {
    let from = floor.before_read(connection).await?;
    let (oldest, leader) = feed::oldest(&mut *connection, from).await?;
    floor.after_read(oldest.map(|oldest| oldest.written_at));
    metrics.feed.set_lag(oldest.map_or(0.0, |oldest| oldest.age));
    let Some((oldest, leader)) = oldest.zip(leader) else { return Ok((None, STANDBY_INTERVAL)) };
    let now = WaitingChange { id: oldest.id, leader, seen_at: Instant::now() };
    let waiting = before.filter(|before| (before.id, before.leader) == (now.id, now.leader));
    let Some(waiting) = waiting else { return Ok((Some(now), STANDBY_INTERVAL)) };
    if waiting.seen_at.elapsed() < LEADER_TIMEOUT {
        return Ok((Some(waiting), STANDBY_INTERVAL));
    }
    if feed::end_leader(connection, leader).await? {
        tracing::warn!(
            waiting_seconds = oldest.age,
            "the server that numbers changes has stopped; another one takes its place"
        );
        return Ok((None, MIN_TICK_INTERVAL));
    }
    Ok((Some(waiting), STANDBY_INTERVAL))
}

#[cfg(test)]
mod tests {
    use super::{Duration, LEADER_TIMEOUT, STANDBY_INTERVAL};

    #[test]
    fn stopped_leader_is_replaced_within_a_second() {
        // The first look, the time that the change may wait, and the pause before the last look.
        let longest = STANDBY_INTERVAL + LEADER_TIMEOUT + STANDBY_INTERVAL;
        assert!(longest <= Duration::from_secs(1));
    }
}
