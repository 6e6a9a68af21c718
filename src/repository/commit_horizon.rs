//! The commit horizon: the time up to which no further change of a session can appear.
//!
//! The statement of a change takes its time from the clock of the database, after PostgreSQL has
//! locked the tables that the statement writes. So a transaction that has taken a time and has not
//! ended holds a lock of `session_event`, and began before that time. The horizon is the earliest
//! start of such a transaction, or the present time if no such transaction runs. The clocks of
//! servers play no role.
//!
//! A statement that starts after the horizon was read sees every change up to the horizon. A
//! statement that started before may not see it.

use chrono::{DateTime, TimeDelta, Utc};

use sqlx::PgExecutor;

use super::Error;

/// The commit horizon, and the present time by the same clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitHorizon {
    /// The present time.
    pub now: DateTime<Utc>,
    /// Every change at this time or earlier is committed, or never will be.
    pub settled_until: DateTime<Utc>,
}

/// The times of one reading.
struct RunningWrites {
    now: DateTime<Utc>,
    /// The earliest start of a running write.
    started_at: Option<DateTime<Utc>>,
    /// The earliest time at which a running write was prepared for a commit in two phases.
    prepared_at: Option<DateTime<Utc>>,
    /// Whether the start of a running write is hidden: it belongs to a role whose activity this
    /// role may not see, or PostgreSQL does not track activities.
    has_hidden: bool,
}

impl CommitHorizon {
    /// The assumed age of a write whose begin is unknown. No statement may take so long.
    const UNKNOWN_AGE: TimeDelta = TimeDelta::hours(2);

    /// Reads the horizon. `fixed_time` replaces the clock of the database in tests: changes then
    /// have that time, and the start of a transaction cannot be compared with it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read(
        executor: impl PgExecutor<'_>,
        fixed_time: Option<DateTime<Utc>>,
    ) -> Result<Self, Error> {
        if let Some(now) = fixed_time {
            return Ok(Self { now, settled_until: now });
        }
        // The locks are read before the activities: a write that ends between the two is missing
        // among the activities, and is committed. `offset 0` keeps this order. `now()` is the time
        // at which the statement arrived, and thus earlier than both.
        let found = sqlx::query_as!(
            RunningWrites,
            r#"
            with writer as materialized (
                select pid
                from pg_locks
                where locktype = 'relation' and mode = 'RowExclusiveLock' and granted
                  and relation = 'session_event'::regclass
                  and database = (select oid from pg_database where datname = current_database())
            )
            select now() as "now!",
                   min(activity.xact_start) as started_at,
                   (
                       select min(prepared)
                       from pg_prepared_xacts
                       where database = current_database()
                         and exists (select from writer where pid is null)
                   ) as prepared_at,
                   coalesce(bool_or(
                       activity.xact_start is null
                       and coalesce(activity.state, 'disabled') = 'disabled'
                   ) filter (where activity.pid is not null), false) as "has_hidden!"
            from writer
            left join lateral (
                select pid, state, xact_start
                from pg_stat_activity
                where pg_stat_activity.pid = writer.pid
                offset 0
            ) as activity on true
            "#
        )
        .fetch_one(executor)
        .await?;
        Ok(found.horizon())
    }
}

impl RunningWrites {
    fn horizon(&self) -> CommitHorizon {
        let hidden = self.has_hidden.then_some(self.now);
        let unknown = [self.prepared_at, hidden].into_iter().flatten();
        let unknown = unknown.map(|at| at - CommitHorizon::UNKNOWN_AGE);
        let begin = self.started_at.into_iter().chain(unknown).fold(self.now, DateTime::min);
        // A change may have the time at which its transaction began.
        CommitHorizon { now: self.now, settled_until: begin - TimeDelta::microseconds(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn settled_until(writes: &RunningWrites) -> DateTime<Utc> {
        writes.horizon().settled_until
    }

    #[test]
    fn horizon_is_before_every_running_write() {
        let micro = TimeDelta::microseconds(1);
        let idle = || RunningWrites {
            now: at(100_000),
            started_at: None,
            prepared_at: None,
            has_hidden: false,
        };
        assert_eq!(settled_until(&idle()), at(100_000) - micro);
        let running = RunningWrites { started_at: Some(at(99_990)), ..idle() };
        assert_eq!(settled_until(&running), at(99_990) - micro);
        // A transaction that began after the reading does not move the horizon forward.
        let later = RunningWrites { started_at: Some(at(100_001)), ..idle() };
        assert_eq!(settled_until(&later), at(100_000) - micro);
        let hidden = RunningWrites { has_hidden: true, ..running };
        assert_eq!(settled_until(&hidden), at(100_000 - 7_200) - micro);
        let prepared = RunningWrites { prepared_at: Some(at(90_000)), ..idle() };
        assert_eq!(settled_until(&prepared), at(90_000 - 7_200) - micro);
    }
}
