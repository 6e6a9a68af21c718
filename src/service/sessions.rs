//! Creating, reading and changing sessions.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use sqlx::PgPool;
use tokio::sync::Notify;
use uuid::{NoContext, Timestamp, Uuid};

use super::turns::Turns;
use super::{Caller, Error};
use crate::clock::Clock;
use crate::domain::{NewSession, Rules, Session, SessionId, Update};
use crate::repository::sessions::{self, Creation, Decided};

/// How often an update is decided anew when other servers were faster. Each of them gets its turn
/// in between, so this many losses in a row mean that the session is beyond help.
const TRIES: u32 = 100;
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// The sessions of all enterprises.
pub struct Sessions {
    pool: PgPool,
    rules: Rules,
    clock: Clock,
    turns: Turns,
    changed: Arc<Notify>,
}

impl Sessions {
    /// The sessions in the database behind `pool`.
    #[must_use]
    pub fn new(pool: PgPool, rules: Rules, clock: Clock) -> Self {
        Self { pool, rules, clock, turns: Turns::new(), changed: Arc::default() }
    }

    /// Is notified when a session has changed here.
    #[must_use]
    pub fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// Begins a session.
    ///
    /// # Errors
    /// [`Error::Refused`], or when the database fails.
    pub async fn create(&self, caller: &Caller, new: NewSession) -> Result<Session, Error> {
        let at = self.clock.now();
        let seconds = u64::try_from(at.timestamp()).unwrap_or_default();
        let time = Timestamp::from_unix(NoContext, seconds, at.timestamp_subsec_nanos());
        let id = SessionId::new(Uuid::new_v7(time));
        let session = Session::create(id, caller.app().buin, new, &self.rules, at)?;
        let creation = Creation { session: &session, app_id: &caller.app().app_id };
        sessions::insert(&self.pool, &[creation]).await?;
        self.changed.notify_one();
        Ok(session)
    }

    /// Reads a session of the caller's enterprise.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], or when the database fails.
    pub async fn get(&self, caller: &Caller, id: SessionId) -> Result<Session, Error> {
        let mut found = sessions::find(&self.pool, &[id]).await?;
        match found.pop() {
            Some(session) if session.buin == caller.app().buin => Ok(session),
            _ => Err(Error::NoSuchSession),
        }
    }

    /// Changes a session, and gives it as it is then. What changes nothing is not written.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], [`Error::Refused`], [`Error::Contended`], or when the database
    /// fails.
    pub async fn update(
        &self,
        caller: &Caller,
        id: SessionId,
        update: &Update,
    ) -> Result<Session, Error> {
        let _turn = self.turns.take(id).await;
        for attempt in 0..TRIES {
            let session = self.get(caller, id).await?;
            let Some(change) = session.update(update, &self.rules, self.clock.now())? else {
                return Ok(session);
            };
            let decided = Decided {
                change: &change,
                operator: update.operator(),
                app_id: &caller.app().app_id,
            };
            if !sessions::update_if_version(&self.pool, &[decided]).await?.is_empty() {
                self.changed.notify_one();
                return Ok(change.after);
            }
            // Somebody else was faster. Whoever named a version learns it from deciding anew.
            tokio::time::sleep(wait(attempt)).await;
        }
        Err(Error::Contended)
    }
}

/// How long to wait before the try after `attempt`: at random, within a bound that doubles.
fn wait(attempt: u32) -> Duration {
    let bound = Duration::from_millis(1 << attempt.min(10)).min(LONGEST_WAIT);
    rand::rng().random_range(Duration::ZERO..=bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_bounded_and_the_first_is_short() {
        for attempt in 0..TRIES {
            assert!(wait(attempt) <= LONGEST_WAIT);
        }
        assert!(wait(0) <= Duration::from_millis(1));
    }
}
