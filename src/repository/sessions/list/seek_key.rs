//! The end of a page, after which the next one begins.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::SessionId;
use crate::repository::Error;
use crate::repository::Pool;
use crate::repository::commit_horizon::CommitHorizon;

/// The position after which a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekKey {
    /// The session at that position.
    pub id: SessionId,
    /// The position in time, in lists by change.
    pub time: Option<TimeSeekKey>,
    /// The time up to which the list is complete, in lists by creation that begin at a time of
    /// change. In lists by change, the snapshot has this time.
    pub complete_until: Option<DateTime<Utc>>,
}

/// A position in a list by change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeSeekKey {
    /// The time of the session's change.
    pub at: DateTime<Utc>,
    /// The state of the database that orders the list.
    pub as_of: ReadSnapshot,
}

/// The state of the database that orders a list by change: all transactions that were committed
/// when its first page was read. A time is not enough, because changes are not committed in the
/// order of their times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadSnapshot {
    /// The commit horizon of the first page. The list has no change that was later when the first
    /// page was read.
    pub at: DateTime<Utc>,
    /// The transactions that were committed when the first page was read.
    pub snapshot: TransactionSnapshot,
}

/// A `pg_snapshot` as text: `xmin:xmax:running`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionSnapshot(Box<str>);

/// A text that is not a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no snapshot")]
pub struct InvalidSnapshot;

impl SeekKey {
    /// The latest possible time of a position: the end of the year 9999.
    pub const LATEST: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_799, 0) {
        Some(time) => time,
        None => DateTime::UNIX_EPOCH,
    };
}

impl ReadSnapshot {
    /// Changes older than this are committed or never will be, because the statements that write
    /// them have a shorter timeout. Their transaction ids are not compared, because the ids have no
    /// meaning after the database was restored into another server.
    const SETTLE_TIME: TimeDelta = TimeDelta::minutes(10);

    /// Reads the current state. The horizon was read before, so every change up to the horizon is
    /// in the snapshot.
    pub(super) async fn take(pool: &Pool, horizon: CommitHorizon) -> Result<Self, Error> {
        let snapshot = sqlx::query_scalar!(r#"select pg_current_snapshot()::text as "snapshot!""#)
            .fetch_one(pool)
            .await?;
        Ok(Self { at: horizon.settled_until, snapshot: TransactionSnapshot(snapshot.into()) })
    }

    /// The time before which the ids of transactions are not compared.
    pub(super) fn settled_before(&self) -> DateTime<Utc> {
        self.at - Self::SETTLE_TIME
    }
}

impl TransactionSnapshot {
    /// The snapshot as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TransactionSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TransactionSnapshot {
    type Err = InvalidSnapshot;

    /// Accepts the same texts as PostgreSQL.
    fn from_str(text: &str) -> Result<Self, InvalidSnapshot> {
        let number = |text: &str| match text.parse::<u64>() {
            Ok(number) if text.starts_with(|c: char| c.is_ascii_digit()) => Ok(number),
            _ => Err(InvalidSnapshot),
        };
        let (from, rest) = text.split_once(':').ok_or(InvalidSnapshot)?;
        let (to, running) = rest.split_once(':').ok_or(InvalidSnapshot)?;
        let (from, to) = (number(from)?, number(to)?);
        let mut min = from;
        for text in running.split(',').filter(|_| !running.is_empty()) {
            let id = number(text)?;
            if id < min || id >= to {
                return Err(InvalidSnapshot);
            }
            min = id + 1;
        }
        if from == 0 || from > to {
            return Err(InvalidSnapshot);
        }
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_syntax_matches_postgresql() {
        for text in ["1:1:", "10:20:", "10:20:10", "10:20:10,14,19"] {
            assert_eq!(text.parse::<TransactionSnapshot>().unwrap().as_str(), text);
        }
        for text in [
            "",
            ":",
            "::",
            "1:1",
            "0:1:",
            "2:1:",
            "+1:1:",
            "10:20:9",
            "10:20:20",
            "10:20:14,14",
            "10:20:14,12",
            "10:20:,",
            "10:20:10,",
            "1:18446744073709551616:",
            "1:1:\0",
            " 1:1:",
        ] {
            assert_eq!(text.parse::<TransactionSnapshot>(), Err(InvalidSnapshot), "{text}");
        }
    }
}
