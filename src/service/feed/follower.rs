//! Reads the changes of all servers, from the position at which the last poll ended.
//!
//! A poll also reads the changes that wait for their number, so it needs no sequencer. A promoted
//! standby may lack the last changes and give their numbers to others, so the follower starts again
//! at the current head on every new connection. After an error there is another reason: if one poll
//! had too many changes, the next poll would also have too many.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::outbox_floor::OutboxFloor;
use crate::metrics::Metrics;
use crate::repository::connections::dedicated_connection::DedicatedConnection;
use crate::repository::connections::pool::PoolLimits;
use crate::repository::feed::{self, FeedPosition, SessionChange};
use crate::repository::{Connection, Error, Pool};

/// The maximum time that a poll waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of changes in a poll. After more changes, it is cheaper to forget all sessions.
const MAX_CHANGES: u32 = 10_000;

/// Polls the feed on its own connection.
pub(super) struct Follower {
    dedicated: DedicatedConnection,
    metrics: Arc<Metrics>,
    last: Option<PollState>,
}

/// The state after the last poll.
#[derive(Clone)]
struct PollState {
    position: FeedPosition,
    floor: OutboxFloor,
    /// The generation of the connection that returned the position.
    generation: usize,
}

/// The result of a poll.
pub(super) enum FeedPoll {
    /// Every session that changed since the last poll, with its latest version. A change may be
    /// reported several times.
    Changes(Vec<SessionChange>),
    /// The follower started at the current head, so earlier changes are unknown.
    Restarted,
}

impl Follower {
    pub(super) fn new(pool: &Pool, limits: PoolLimits, metrics: Arc<Metrics>) -> Self {
        let dedicated = DedicatedConnection::for_polling(pool, limits, metrics.clone());
        Self { dedicated, metrics, last: None }
    }

    /// Reads the changes since the last poll.
    ///
    /// # Errors
    /// The database fails. The next poll then starts at the current head.
    pub(super) async fn poll(&mut self) -> Result<FeedPoll, Error> {
        let connection = self.dedicated.acquire(Instant::now() + CONNECT_TIMEOUT).await?;
        let generation = self.dedicated.generation();
        let last = self.last.take().filter(|last| last.generation == generation);
        let needs_writes = self.dedicated.needs_writes();
        let reading = self.dedicated.run(connection, |mut connection| {
            let last = last.clone();
            async move {
                let done = async {
                    if needs_writes {
                        DedicatedConnection::check_writable(&mut connection).await?;
                    }
                    read(&mut connection, generation, last).await
                };
                let done = done.await;
                (connection, done)
            }
        });
        let (poll, state) = reading.await?;
        self.metrics.feed.set_head(state.position.change_count());
        self.last = Some(state);
        Ok(poll)
    }
}

async fn read(
    connection: &mut Connection,
    generation: usize,
    last: Option<PollState>,
) -> Result<(FeedPoll, PollState), Error> {
    let Some(PollState { position, mut floor, .. }) = last else {
        let position = feed::head(connection).await?;
        let floor = OutboxFloor::default();
        return Ok((FeedPoll::Restarted, PollState { position, floor, generation }));
    };
    let from = floor.before_read(connection).await?;
    let found = feed::changes_since(connection, position, from, MAX_CHANGES).await?;
    floor.after_read(None);
    let is_behind = found.head < position;
    let state = PollState { position: found.head, floor, generation };
    let poll = match found.is_truncated || is_behind {
        true => FeedPoll::Restarted,
        false => FeedPoll::Changes(found.sessions),
    };
    Ok((poll, state))
}
