//! Reads the feed, from the position at which the last poll ended.
//!
//! A position is valid only on the connection that returned it. A crashed PostgreSQL server may
//! lose transactions that were committed without waiting for the disk, and may assign their numbers
//! again; a promoted standby may lose more. So the poller starts again at the current position
//! after every error and on every new connection. After an error there is another reason: if one
//! poll had too many changes, the next poll would also have too many.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{SessionId, Version};
use crate::metrics::Metrics;
use crate::repository::dedicated_connection::DedicatedConnection;
use crate::repository::feed::{self, FeedPosition};
use crate::repository::pool::PoolLimits;
use crate::repository::{Connection, Error, Pool};

/// The maximum time that a poll waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Polls the feed on its own connection.
pub(super) struct FeedPoller {
    dedicated: DedicatedConnection,
    last: Option<PollState>,
}

/// The position after the last poll.
struct PollState {
    position: FeedPosition,
    /// The generation of the connection that returned the position.
    generation: usize,
}

/// The result of a poll.
pub(super) enum FeedPoll {
    /// Every session that changed since the last poll, with its latest version.
    Changes(Vec<(SessionId, Version)>),
    /// The poller started at the current position, so earlier changes are unknown.
    Restarted,
}

impl FeedPoller {
    pub(super) fn new(pool: &Pool, limits: PoolLimits, metrics: Arc<Metrics>) -> Self {
        Self { dedicated: DedicatedConnection::for_polling(pool, limits, metrics), last: None }
    }

    /// Reads the changes since the last poll.
    ///
    /// # Errors
    /// The database fails. The next poll then starts at the current position.
    pub(super) async fn poll(&mut self) -> Result<FeedPoll, Error> {
        let connection = self.dedicated.acquire(Instant::now() + CONNECT_TIMEOUT).await?;
        let generation = self.dedicated.generation();
        let last = self.last.take().filter(|last| last.generation == generation);
        let last = last.as_ref().map(|last| &last.position);
        let reading = self.dedicated.run(connection, |mut connection| async move {
            let read = read(&mut connection, last).await;
            (connection, read)
        });
        let (poll, position) = reading.await?;
        self.last = Some(PollState { position, generation });
        Ok(poll)
    }
}

/// Reads the changes since `last`, and the position after them.
async fn read(
    connection: &mut Connection,
    last: Option<&FeedPosition>,
) -> Result<(FeedPoll, FeedPosition), Error> {
    let Some(last) = last else {
        return Ok((FeedPoll::Restarted, feed::current(connection).await?));
    };
    let (changes, position) = feed::changes_since(connection, last).await?;
    Ok((FeedPoll::Changes(changes), position))
}
