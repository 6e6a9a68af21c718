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
use super::pool_admission::PoolPermit;
use super::{BackgroundThreads, CachedSession, Caller, ChangeNotifier, Error, WorkTurns};
use crate::clock::Clock;
use crate::domain::{
    IdempotencyKey, NewSession, Permission, Request, Rules, Session, SessionId, Version,
};
use crate::metrics::Metrics;
use crate::repository::Pool;

/// The sessions of all enterprises. A clone uses the same cache and queues.
#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Context>,
    queues: BatchQueues,
    pub(super) turns: WorkTurns,
    pub(super) background: BackgroundThreads,
}

/// The options of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// The idempotency key: the request is executed once, even if it is sent several times.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Whether to return the result without writing it. The key is then ignored.
    pub dry_run: bool,
}

/// How fresh a session must be for its reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// Whether the session must come from the database.
    pub no_cache: bool,
    /// The version that the reader has seen.
    pub min_version: Option<Version>,
}

/// The outcome of a write.
#[derive(Clone, Debug)]
pub struct WriteOutcome {
    /// The id of the session.
    pub session_id: SessionId,
    /// The version after the write, or after the simulated write.
    pub version: Version,
    /// The session at that version. `None` if the caller may not read it.
    pub session: Option<Arc<CachedSession>>,
    /// Whether this is the outcome of an earlier request with the same key.
    pub replayed: bool,
}

impl WriteOutcome {
    /// The outcome with its session.
    pub(super) fn new(session: impl Into<Arc<CachedSession>>) -> Self {
        let session = session.into();
        Self {
            session_id: session.id,
            version: session.version,
            session: Some(session),
            replayed: false,
        }
    }

    /// The outcome of an update, without the session if the caller may not read it.
    fn for_caller(mut self, caller: &Caller) -> Self {
        self.session = self.session.filter(|_| caller.may_read());
        self
    }
}

impl Sessions {
    /// The sessions in the database behind `pool`. Requires a Tokio runtime, because it spawns
    /// tasks.
    #[must_use]
    pub fn new(
        pool: Pool,
        clock: Clock,
        options: SessionOptions,
        metrics: Arc<Metrics>,
        background: BackgroundThreads,
    ) -> Self {
        let shared = Context::new(pool, clock, options, metrics);
        let queues = BatchQueues::spawn(&shared);
        Self { shared, queues, turns: WorkTurns::new(), background }
    }

    /// The same sessions with batchers on the current runtime, and with turns of its own. Each server
    /// thread calls this once.
    #[must_use]
    pub fn for_current_thread(&self) -> Self {
        let (shared, queues) = (self.shared.clone(), self.queues.for_thread(&self.shared));
        Self { shared, queues, turns: WorkTurns::new(), background: self.background.clone() }
    }

    pub(super) fn shared(&self) -> &Context {
        &self.shared
    }

    /// The notifier of changes that this server makes.
    #[must_use]
    pub fn change_notifier(&self) -> Arc<ChangeNotifier> {
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
    /// [`Error::Rejected`], [`Error::IdempotencyKeyReused`], or the database fails.
    pub async fn create(
        &self,
        caller: &Caller,
        new: NewSession,
        options: &WriteOptions,
    ) -> Result<WriteOutcome, Error> {
        let at = self.shared.clock.now();
        let reason = new.reason.clone();
        let mut session = Session::create(new_id(at), caller.app().buin, new, self.rules(), at)?;
        if options.dry_run {
            return Ok(WriteOutcome::new(CachedSession::from(session)));
        }
        loop {
            let creating = CreateCommand {
                app: caller.app_context().clone(),
                fill_token: self.shared.cache.begin_fill(session.id),
                session,
                reason: reason.clone(),
                key: options.idempotency_key.clone(),
            };
            let deadline = self.shared.deadline_for(caller);
            match self.queues.creates.submit(creating, caller.app().buin, deadline).await? {
                CreateOutcome::Created(session) => return Ok(WriteOutcome::new(session)),
                CreateOutcome::DuplicateKey(_) if options.idempotency_key.is_none() => {
                    return Err(Error::Contention);
                }
                // Boxed: the future is large and seldom needed.
                CreateOutcome::DuplicateKey(unwritten) => {
                    match Box::pin(self.replay(caller, options)).await? {
                        Some(outcome) => return Ok(outcome),
                        // The key has expired since the conflict.
                        None => session = *unwritten,
                    }
                }
            }
        }
    }

    /// Reads a session of the caller's enterprise, from the cache if possible.
    ///
    /// # Errors
    /// [`Error::SessionNotFound`], or the database fails.
    pub async fn get(&self, caller: &Caller, id: SessionId) -> Result<Arc<CachedSession>, Error> {
        match self.shared.cache.get(id) {
            Some(session) => ensure_visible(caller, Some(session)),
            None => self.get_uncached(caller, id).await,
        }
    }

    /// Reads a session of the caller's enterprise from the database.
    ///
    /// # Errors
    /// [`Error::SessionNotFound`], or the database fails.
    pub async fn get_uncached(
        &self,
        caller: &Caller,
        id: SessionId,
    ) -> Result<Arc<CachedSession>, Error> {
        let deadline = self.shared.deadline_for(caller);
        ensure_visible(caller, self.queues.reads.submit(id, caller.app().buin, deadline).await?)
    }

    /// Reads a session of the caller's enterprise that is as fresh as the reader demands, from the
    /// cache if possible.
    ///
    /// # Errors
    /// [`Error::SessionNotFound`], [`Error::VersionNotReached`] if the session has only an earlier
    /// version in the database, or the database fails.
    pub async fn get_fresh(
        &self,
        caller: &Caller,
        id: SessionId,
        Freshness { no_cache, min_version }: Freshness,
    ) -> Result<Arc<CachedSession>, Error> {
        let read_cache = || self.shared.cache.get_at_least(id, min_version);
        let session = match (!no_cache).then(read_cache).flatten() {
            Some(session) => ensure_visible(caller, Some(session))?,
            None => self.get_uncached(caller, id).await?,
        };
        ensure_reached(min_version, session.version)?;
        Ok(session)
    }

    /// Changes a session, and returns the session after the change. A request that changes nothing
    /// is not written.
    ///
    /// A caller that may not read sessions gets only the id and the version. Such a caller may not
    /// send requests that can only read: a dry run, or an update without a field to change.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::SessionNotFound`], [`Error::Rejected`], [`Error::IdempotencyKeyReused`],
    /// [`Error::Contention`], or the database fails.
    pub async fn update(
        &self,
        caller: &Caller,
        id: SessionId,
        request: Request,
        options: &WriteOptions,
    ) -> Result<WriteOutcome, Error> {
        if (options.dry_run || request.action.is_empty()) && !caller.may_read() {
            return Err(caller.missing(Permission::SessionsRead).into());
        }
        if options.dry_run {
            let session = self.get_uncached(caller, id).await?;
            let change = session.decide(&request, self.rules(), self.shared.clock.now())?;
            return Ok(match change {
                Some(change) => WriteOutcome::new(CachedSession::from(change.after)),
                None => WriteOutcome::new(session),
            });
        }
        // A request with a key may be submitted again: the key may have been used and then expired.
        let retained_request = options.idempotency_key.as_ref().map(|_| request.clone());
        let mut request = Some(request);
        loop {
            // Boxed: the future is large and seldom needed.
            if options.idempotency_key.is_some()
                && let Some(outcome) = Box::pin(self.replay(caller, options)).await?
            {
                return Ok(outcome.for_caller(caller));
            }
            let Some(request) = request.take().or_else(|| retained_request.clone()) else {
                return Err(Error::Contention);
            };
            let (sender, affinity) = self.shared.affinity.route(id, &self.queues.updates);
            let (app, key) = (caller.app_context().clone(), options.idempotency_key.clone());
            let changing = UpdateCommand { affinity, app, id, request, key };
            let deadline = self.shared.deadline_for(caller);
            match sender.submit(changing, caller.app().buin, deadline).await? {
                UpdateOutcome::Updated(session) => {
                    return Ok(WriteOutcome::new(session).for_caller(caller));
                }
                UpdateOutcome::Unchanged(session) => {
                    if Box::pin(self.record_noop(caller, &session, options)).await? {
                        return Ok(WriteOutcome::new(session).for_caller(caller));
                    }
                }
                UpdateOutcome::DuplicateKey => {}
            }
        }
    }

    /// The pool, for a request that does not share statements.
    ///
    /// # Errors
    /// [`Error::Overloaded`] or [`Error::Unavailable`] if the share of the caller's enterprise is in
    /// use for too long. Nothing was done.
    pub(super) async fn admit(&self, caller: &Caller) -> Result<PoolPermit<'_>, Error> {
        let deadline = self.shared.deadline_for(caller);
        self.shared.pool_admission.admit(caller.app().buin, deadline).await
    }
}

fn ensure_visible(
    caller: &Caller,
    session: Option<Arc<CachedSession>>,
) -> Result<Arc<CachedSession>, Error> {
    session.filter(|session| session.buin == caller.app().buin).ok_or(Error::SessionNotFound)
}

/// Checks that a session has reached the version that its reader has seen.
pub(super) fn ensure_reached(min: Option<Version>, current: Version) -> Result<(), Error> {
    match min {
        Some(min) if current < min => Err(Error::VersionNotReached { current, min }),
        _ => Ok(()),
    }
}

/// A new UUID v7 for the time `at`.
fn new_id(at: DateTime<Utc>) -> SessionId {
    let seconds = u64::try_from(at.timestamp()).unwrap_or_default();
    let time = Timestamp::from_unix(NoContext, seconds, at.timestamp_subsec_nanos());
    SessionId::new(Uuid::new_v7(time))
}

#[cfg(test)]
impl Sessions {
    /// Sessions without a database, in a Tokio runtime.
    pub(crate) fn for_tests() -> Self {
        let shared = Context::for_tests();
        let background = BackgroundThreads::start().unwrap();
        Self { queues: BatchQueues::spawn(&shared), shared, turns: WorkTurns::new(), background }
    }
}
