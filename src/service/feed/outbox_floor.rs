//! The time below which a reader need not look for rows of `outbox`.
//!
//! Deleted rows stay in the index while a transaction is older than their deletion, and a backup may
//! take an hour. Without a bound, every read would pass over the rows of that hour. The bound comes
//! from the commit horizon: no row with an earlier time appears later, so a read that started after
//! the horizon was known has seen all of them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::repository::commit_horizon::CommitHorizon;
use crate::repository::{Connection, Error};

/// The interval between two readings of the horizon.
const READ_INTERVAL: Duration = Duration::from_secs(5);
/// The distance of the floor from the horizon. The clock of the database may go back by this much
/// between two readings, and a larger step is noticed.
const MARGIN: TimeDelta = TimeDelta::seconds(10);
/// The least interval between two reads of the whole table, in case that a row was missed.
const FULL_READ_INTERVAL: Duration = Duration::from_secs(60);
/// Reads of the whole table take at most this part of the time.
const FULL_READ_SHARE: u32 = 200;

/// The floor of one reader, on one connection. It is below all rows at first.
#[derive(Clone, Debug, Default)]
pub(super) struct OutboxFloor {
    floor: Option<DateTime<Utc>>,
    /// The last reading of the horizon, and its time.
    reading: Option<(CommitHorizon, Instant)>,
    /// The start of the current read.
    read_started_at: Option<Instant>,
    /// The time of the next read of the whole table.
    full_read_at: Option<Instant>,
}

impl OutboxFloor {
    /// The floor of the next read.
    ///
    /// # Errors
    /// The database fails.
    pub(super) async fn before_read(
        &mut self,
        connection: &mut Connection,
    ) -> Result<DateTime<Utc>, Error> {
        if self.reading.is_none_or(|(_, read_at)| read_at.elapsed() >= READ_INTERVAL) {
            // By the clock of the database in tests too: the rows have its times.
            let horizon = CommitHorizon::read(connection, None).await?;
            self.update(horizon, Instant::now());
        }
        let now = Instant::now();
        self.read_started_at = Some(now);
        if self.full_read_at.is_some_and(|due| now >= due) {
            self.floor = None;
        }
        Ok(self.floor.unwrap_or(DateTime::UNIX_EPOCH))
    }

    /// Records that the read has succeeded. `oldest_left` is the time of the oldest row that the
    /// reader must find again.
    pub(super) fn after_read(&mut self, oldest_left: Option<DateTime<Utc>>) {
        if self.floor.is_none() {
            let now = Instant::now();
            let duration = self.read_started_at.map_or(Duration::ZERO, |start| now - start);
            self.full_read_at = Some(now + FULL_READ_INTERVAL.max(duration * FULL_READ_SHARE));
        }
        let settled_until = self.reading.map(|(horizon, _)| horizon.settled_until);
        let settled_until = settled_until.map(|settled_until| settled_until - MARGIN);
        self.floor = match oldest_left {
            Some(oldest) => settled_until.map(|settled_until| settled_until.min(oldest)),
            None => settled_until,
        };
    }

    fn update(&mut self, horizon: CommitHorizon, at: Instant) {
        if self.reading.is_some_and(|(last, _)| horizon.now < last.now) {
            // The clock of the database went back.
            self.floor = None;
        }
        self.reading = Some((horizon, at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn horizon(now: i64, settled_until: i64) -> CommitHorizon {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        CommitHorizon { now: at(now), settled_until: at(settled_until) }
    }

    fn seconds(floor: &OutboxFloor) -> Option<i64> {
        floor.floor.map(|floor| floor.timestamp())
    }

    #[test]
    fn floor_follows_the_horizon_and_keeps_unnumbered_rows() {
        let (mut floor, now) = (OutboxFloor::default(), Instant::now());
        floor.update(horizon(1_000, 990), now);
        assert_eq!(seconds(&floor), None, "nothing was read yet");
        floor.after_read(None);
        assert_eq!(seconds(&floor), Some(980));
        // A reading does not count for a read before it.
        floor.update(horizon(1_005, 1_004), now);
        assert_eq!(seconds(&floor), Some(980));
        floor.after_read(Some(DateTime::from_timestamp(985, 0).unwrap()));
        assert_eq!(seconds(&floor), Some(985));
        floor.after_read(None);
        assert_eq!(seconds(&floor), Some(994));
    }

    #[test]
    fn floor_starts_again_if_the_clock_went_back() {
        let (mut floor, now) = (OutboxFloor::default(), Instant::now());
        floor.update(horizon(1_000, 999), now);
        floor.after_read(None);
        assert_eq!(seconds(&floor), Some(989));
        floor.update(horizon(980, 979), now);
        assert_eq!(seconds(&floor), None);
        floor.after_read(None);
        assert_eq!(seconds(&floor), Some(969));
    }
}
