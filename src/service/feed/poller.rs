//! Reads the feed, from the position at which the last poll ended.
//!
//! A position is valid only on the connection that returned it. A PostgreSQL server that crashed
//! may have lost transactions that were committed without waiting for the disk, and gives their
//! numbers to other transactions; a standby that was promoted may have lost more. So the poller
//! starts again at the current position after every error and on every new connection. After an
//! error this is also right for another reason: changes that were too many for one poll would be
//! too many for the next one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{SessionId, Version};
use crate::metrics::Metrics;
use crate::repository::dedicated_connection::DedicatedConnection;
use crate::repository::feed::{self, FeedPosition};
use crate::repository::pool::PoolLimits;
use crate::repository::{Error, Pool};

/// The longest time that a poll waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Polls the feed on a connection of its own.
pub(super) struct FeedPoller {
    dedicated: DedicatedConnection,
    last: Option<PollState>,
}

/// Where the last poll ended.
struct PollState {
    position: FeedPosition,
    /// Which of the connections of the poller returned the position.
    connection: usize,
}

/// The result of a poll.
pub(super) enum FeedPoll {
    /// Every session that changed since the last poll, with its latest version.
    Changes(Vec<(SessionId, Version)>),
    /// The poller started at the current position: what changed before is unknown.
    Restarted,
}

impl FeedPoller {
    pub(super) fn new(pool: &Pool, limits: PoolLimits, metrics: Arc<Metrics>) -> Self {
        Self { dedicated: DedicatedConnection::for_polling(pool, limits, metrics), last: None }
    }

    /// Reads what changed since the last poll.
    ///
    /// # Errors
    /// When the database fails. The next poll starts at the current position then.
    pub(super) async fn poll(&mut self) -> Result<FeedPoll, Error> {
        let mut connection = self.dedicated.acquire(Instant::now() + CONNECT_TIMEOUT).await?;
        let made = self.dedicated.generation();
        let last = self.last.take().filter(|last| last.connection == made);
        let reading = async {
            Ok(match last {
                None => (FeedPoll::Restarted, feed::current(&mut connection).await?),
                Some(last) => {
                    let (changes, now) =
                        feed::changes_since(&mut connection, &last.position).await?;
                    (FeedPoll::Changes(changes), now)
                }
            })
        };
        let done = self.dedicated.with_timeout(reading).await;
        self.dedicated.put_back(connection, &done);
        let (poll, position) = done?;
        self.last = Some(PollState { position, connection: made });
        Ok(poll)
    }
}
