//! Creating, reading and changing sessions.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::RngExt as _;
use sqlx::PgPool;
use tokio::sync::Notify;
use uuid::{NoContext, Timestamp, Uuid};

use super::turns::Turns;
use super::{Caller, Error};
use crate::clock::Clock;
use crate::domain::{IdempotencyKey, NewSession, Request, Rules, Session, SessionId};
use crate::repository;
use crate::repository::sessions::{self, Creation, Decided};

/// How often an update is decided anew when other servers were faster. Each of them gets its turn
/// in between, so this many losses in a row mean that the session is beyond help.
const TRIES: u32 = 100;
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// The sessions of all enterprises.
pub struct Sessions {
    pub(super) pool: PgPool,
    pub(super) rules: Rules,
    pub(super) clock: Clock,
    turns: Turns,
    changed: Arc<Notify>,
}

/// How a request is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The caller's name for it: done once, however often it is sent.
    pub key: Option<IdempotencyKey>,
    /// Whether only to tell what would happen. A key is not looked at then.
    pub dry_run: bool,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// The session as it is then, or would be.
    pub session: Session,
    /// Whether this is the answer to an earlier request of the same name.
    pub replayed: bool,
}

impl Done {
    fn now(session: Session) -> Self {
        Self { session, replayed: false }
    }
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

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Begins a session.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::KeyReused`], or when the database fails.
    pub async fn create(
        &self,
        caller: &Caller,
        new: NewSession,
        terms: &Terms,
    ) -> Result<Done, Error> {
        let at = self.clock.now();
        let reason = new.reason.clone();
        let session = Session::create(new_id(at), caller.app().buin, new, &self.rules, at)?;
        if terms.dry_run {
            return Ok(Done::now(session));
        }
        let creation = Creation {
            session: &session,
            app_id: &caller.app().app_id,
            reason: reason.as_ref(),
            key: terms.key.as_ref(),
        };
        loop {
            match sessions::insert(&self.pool, &[creation]).await {
                Ok(()) => {
                    self.changed.notify_one();
                    return Ok(Done::now(session));
                }
                Err(repository::Error::KeyTaken) => {
                    // Unless it was taken so long ago that it is free again.
                    if let Some(done) = self.done_before(caller, terms).await? {
                        return Ok(done);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
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
    /// [`Error::NoSuchSession`], [`Error::Refused`], [`Error::KeyReused`], [`Error::Contended`], or
    /// when the database fails.
    pub async fn change(
        &self,
        caller: &Caller,
        id: SessionId,
        request: &Request,
        terms: &Terms,
    ) -> Result<Done, Error> {
        let _turn = self.turns.take(id).await;
        if let Some(done) = self.done_before(caller, terms).await? {
            return Ok(done);
        }
        for attempt in 0..TRIES {
            let session = self.get(caller, id).await?;
            let change = session.decide(request, &self.rules, self.clock.now())?;
            let Some(change) = change else {
                match self.nothing_to_do(caller, &session, terms).await {
                    Ok(()) => return Ok(Done::now(session)),
                    Err(repository::Error::KeyTaken) => {}
                    Err(error) => return Err(error.into()),
                }
                // Another server was asked the same just now.
                if let Some(done) = self.done_before(caller, terms).await? {
                    return Ok(done);
                }
                continue;
            };
            if terms.dry_run {
                return Ok(Done::now(change.after));
            }
            let decided = Decided {
                change: &change,
                operator: &request.operator,
                app_id: &caller.app().app_id,
                reason: request.reason.as_ref(),
                key: terms.key.as_ref(),
            };
            match sessions::update_if_version(&self.pool, &[decided]).await {
                Ok(written) if !written.is_empty() => {
                    self.changed.notify_one();
                    return Ok(Done::now(change.after));
                }
                Ok(_) => {}
                Err(repository::Error::KeyTaken) => {
                    if let Some(done) = self.done_before(caller, terms).await? {
                        return Ok(done);
                    }
                }
                Err(error) => return Err(error.into()),
            }
            // Somebody else was faster. Whoever named a version learns it from deciding anew.
            tokio::time::sleep(wait(attempt)).await;
        }
        Err(Error::Contended)
    }
}

/// A UUID v7 of that time.
fn new_id(at: DateTime<Utc>) -> SessionId {
    let seconds = u64::try_from(at.timestamp()).unwrap_or_default();
    let time = Timestamp::from_unix(NoContext, seconds, at.timestamp_subsec_nanos());
    SessionId::new(Uuid::new_v7(time))
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
