//! Creates, reads and changes sessions.
//!
//! Requests of the same kind that arrive together share a statement ([`super::batching`]). A
//! request that arrives alone is executed at once.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::{NoContext, Timestamp, Uuid};

use super::batching::{
    BatchQueues, Context, CreateCommand, CreateOutcome, SessionOptions, UpdateCommand,
    UpdateOutcome,
};
use super::pool_admission::Entered;
use super::{Caller, Changed, Error, KnownSession};
use crate::clock::Clock;
use crate::domain::{IdempotencyKey, NewSession, Request, Rules, Session, SessionId};
use crate::metrics::Metrics;
use crate::repository::PgPool;

/// The sessions of all enterprises. A clone uses the same cache and the same queues.
#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Context>,
    lane: BatchQueues,
}

/// How a write is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The idempotency key: the request is done once, however often it is sent.
    pub key: Option<IdempotencyKey>,
    /// Whether to write nothing and only return what would happen. The key is ignored then.
    pub dry_run: bool,
}

/// The outcome of a write.
#[derive(Clone, Debug)]
pub struct Done {
    /// The session after the write, or as it would be after it.
    pub session: Arc<KnownSession>,
    /// Whether this is the outcome of an earlier request with the same key.
    pub replayed: bool,
}

impl Done {
    fn now(session: impl Into<Arc<KnownSession>>) -> Self {
        Self { session: session.into(), replayed: false }
    }
}

impl Sessions {
    /// The sessions in the database behind `pool`. Must be called on a Tokio runtime: it spawns
    /// tasks.
    #[must_use]
    pub fn new(pool: PgPool, clock: Clock, options: SessionOptions, metrics: Arc<Metrics>) -> Self {
        let shared = Context::new(pool, clock, options, metrics);
        let lane = BatchQueues::spawn(&shared);
        Self { shared, lane }
    }

    /// The same sessions, with batchers on the current runtime. Each server thread calls this once.
    #[must_use]
    pub fn on_this_thread(&self) -> Self {
        Self { shared: self.shared.clone(), lane: self.lane.for_thread(&self.shared) }
    }

    pub(super) fn shared(&self) -> &Context {
        &self.shared
    }

    /// The notifier of changes that this server makes.
    #[must_use]
    pub fn changed(&self) -> Arc<Changed> {
        self.shared.change_notifier.clone()
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.shared.rules
    }

    /// Creates a session.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::KeyReused`], or when the database fails.
    pub async fn create(
        &self,
        caller: &Caller,
        new: NewSession,
        terms: &Terms,
    ) -> Result<Done, Error> {
        let at = self.shared.clock.now();
        let reason = new.reason.clone();
        let session = Session::create(new_id(at), caller.app().buin, new, self.rules(), at)?;
        let session = Arc::new(KnownSession::from(session));
        if terms.dry_run {
            return Ok(Done::now(session));
        }
        loop {
            let creating = CreateCommand {
                app: caller.known().clone(),
                session: session.clone(),
                fill_token: self.shared.cache.mark(session.id),
                reason: reason.clone(),
                key: terms.key.clone(),
            };
            match self.lane.creates.submit(creating, self.shared.deadline_for(caller)).await? {
                CreateOutcome::Written => return Ok(Done::now(session)),
                CreateOutcome::DuplicateKey if terms.key.is_none() => return Err(Error::Contended),
                // Boxed: the future is large and seldom needed.
                CreateOutcome::DuplicateKey => {
                    match Box::pin(self.done_before(caller, terms)).await? {
                        Some(done) => return Ok(done),
                        // The key has expired since.
                        None => continue,
                    }
                }
            }
        }
    }

    /// Reads a session of the caller's enterprise, from the cache if possible.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], or when the database fails.
    pub async fn get(&self, caller: &Caller, id: SessionId) -> Result<Arc<KnownSession>, Error> {
        match self.shared.cache.get(id) {
            Some(session) => visible(caller, Some(session)),
            None => self.read(caller, id).await,
        }
    }

    /// Reads a session of the caller's enterprise from the database.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], or when the database fails.
    pub async fn read(&self, caller: &Caller, id: SessionId) -> Result<Arc<KnownSession>, Error> {
        visible(caller, self.lane.reads.submit(id, self.shared.deadline_for(caller)).await?)
    }

    /// Changes a session and returns it as it is then. A request that changes nothing is not
    /// written.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], [`Error::Refused`], [`Error::KeyReused`], [`Error::Contended`], or
    /// when the database fails.
    pub async fn change(
        &self,
        caller: &Caller,
        id: SessionId,
        request: Request,
        terms: &Terms,
    ) -> Result<Done, Error> {
        if terms.dry_run {
            let session = self.read(caller, id).await?;
            let change = session.decide(&request, self.rules(), self.shared.clock.now())?;
            return Ok(match change {
                Some(change) => Done::now(KnownSession::from(change.after)),
                None => Done::now(session),
            });
        }
        // A request with a key may have to be submitted again, if the key was used but has expired.
        let again = terms.key.as_ref().map(|_| request.clone());
        let mut request = Some(request);
        loop {
            // Boxed: the future is large and seldom needed.
            if terms.key.is_some()
                && let Some(done) = Box::pin(self.done_before(caller, terms)).await?
            {
                return Ok(done);
            }
            let Some(request) = request.take().or_else(|| again.clone()) else {
                return Err(Error::Contended);
            };
            let (sender, affinity) = self.shared.affinity.route(id, &self.lane.updates);
            let changing = UpdateCommand {
                affinity,
                app: caller.known().clone(),
                id,
                request,
                key: terms.key.clone(),
            };
            match sender.submit(changing, self.shared.deadline_for(caller)).await? {
                UpdateOutcome::Written(session) => return Ok(Done::now(session)),
                UpdateOutcome::Unchanged(session) => {
                    if Box::pin(self.nothing_to_do(caller, &session, terms)).await? {
                        return Ok(Done::now(session));
                    }
                }
                UpdateOutcome::DuplicateKey => {}
            }
        }
    }

    /// The pool, for requests that do not share statements.
    pub(super) fn pool(&self, caller: &Caller) -> Result<Entered<'_>, Error> {
        self.shared.pool_admission.enter(self.shared.deadline_for(caller))
    }
}

fn visible(
    caller: &Caller,
    session: Option<Arc<KnownSession>>,
) -> Result<Arc<KnownSession>, Error> {
    session.filter(|session| session.buin == caller.app().buin).ok_or(Error::NoSuchSession)
}

/// A new UUID v7 of that time.
fn new_id(at: DateTime<Utc>) -> SessionId {
    let seconds = u64::try_from(at.timestamp()).unwrap_or_default();
    let time = Timestamp::from_unix(NoContext, seconds, at.timestamp_subsec_nanos());
    SessionId::new(Uuid::new_v7(time))
}
