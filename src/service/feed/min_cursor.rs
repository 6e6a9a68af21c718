//! Reads that include every change up to a cursor.
//!
//! Every read comes from the primary of the database, which has all changes that are committed. The
//! exception is a failover: the new primary may lack the last changes, and a server may have
//! connections to the old one for a moment. So the position is read before and after the read.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::cursor::FeedCursor;
use super::pages::{ensure_valid, epoch_number};
use crate::repository::feed;
use crate::service::{Caller, Error, Sessions};
use crate::telemetry::trace_single_statement;

/// The maximum time that a read waits for the changes up to its cursor.
const MAX_CURSOR_WAIT: Duration = Duration::from_secs(1);
/// The pause between two polls of the feed.
const CURSOR_POLL_INTERVAL: Duration = Duration::from_millis(20);

impl Sessions {
    /// Reads what includes every change up to `cursor`. `covers` tells whether the result has every
    /// change up to a time: lists by time leave out the youngest changes.
    ///
    /// # Errors
    /// [`Error::CursorNotReached`] if the changes do not come within a second,
    /// [`Error::CursorExpired`], or those of `read`.
    pub async fn read_after<'r, T>(
        &self,
        caller: &Caller,
        cursor: Option<FeedCursor>,
        read: impl Fn() -> BoxFuture<'r, Result<T, Error>>,
        covers: impl Fn(&T, DateTime<Utc>) -> bool,
    ) -> Result<T, Error> {
        let Some(cursor) = cursor else { return read().await };
        let give_up_at = Instant::now() + MAX_CURSOR_WAIT;
        // A fixed clock does not tell the times at which changes were numbered.
        let is_fixed = self.shared().clock.fixed_time().is_some();
        loop {
            if self.time_at(caller, &cursor).await?.is_some() {
                let found = read().await?;
                if let Some(at) = self.time_at(caller, &cursor).await?
                    && (is_fixed || covers(&found, at))
                {
                    return Ok(found);
                }
            }
            if Instant::now() >= give_up_at {
                return Err(Error::CursorNotReached);
            }
            tokio::time::sleep(CURSOR_POLL_INTERVAL).await;
        }
    }

    /// The time of the position of a cursor: no change up to it is later. `None` if the database lacks
    /// changes up to the position.
    async fn time_at(
        &self,
        caller: &Caller,
        cursor: &FeedCursor,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let position = {
            let pool = self.admit(caller).await?;
            let reading = feed::check_position(&pool, caller.app().buin, cursor.seq);
            trace_single_statement("feed.position", reading).await?
        };
        let epoch = epoch_number(position.epoch);
        if epoch == cursor.epoch && position.head.seq < cursor.seq {
            return Ok(None);
        }
        ensure_valid(cursor, epoch, position.change)?;
        Ok(Some(position.numbered_at.unwrap_or(DateTime::UNIX_EPOCH)))
    }
}
