//! Idempotency keys: a request with a key is executed once, even if it is sent several times.
//!
//! A key is stored with the session and the resulting version. The response to a repeated request
//! is read from the history. The key of a refused request is not stored: nothing was done, so the
//! request may be sent again.

use std::time::Duration;

use super::sessions::{WriteOptions, WriteOutcome};
use super::{CachedSession, Caller, Error, Pruner, Sessions};
use crate::domain::{MissingEvents, Session};
use crate::repository;
use crate::repository::idempotency::{self, StoredRequest};
use crate::telemetry::trace_single_statement;

/// The interval between two deletions of expired keys.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

impl Sessions {
    /// The outcome of an earlier request with this key, if one exists.
    pub(super) async fn replay(
        &self,
        caller: &Caller,
        options: &WriteOptions,
    ) -> Result<Option<WriteOutcome>, Error> {
        let Some(key) = options.idempotency_key.as_ref().filter(|_| !options.dry_run) else {
            return Ok(None);
        };
        let (app, now) = (caller.app(), self.shared().clock.now());
        let pool = self.admit(caller).await?;
        let finding = idempotency::find(&pool, app, key.name(), now);
        let Some(stored) = trace_single_statement("idempotency.find", finding).await? else {
            return Ok(None);
        };
        if stored.expired {
            let deleting = idempotency::delete(&pool, app, key.name(), now);
            trace_single_statement("idempotency.delete", deleting).await?;
            return Ok(None);
        }
        if stored.digest != *key.digest() {
            return Err(Error::IdempotencyKeyReused);
        }
        // An acknowledgement must not be earlier than the safe copy of the change.
        let waiting = idempotency::wait_for_standbys(&pool);
        trace_single_statement("idempotency.wait_for_standbys", waiting).await?;
        let StoredRequest { session_id, version, .. } = stored;
        let deadline = self.shared().deadline_for(caller);
        let session = match self.version_of(&pool, app.buin, session_id, version, deadline).await {
            // The key was stored together with its event.
            Err(Error::SessionNotFound | Error::VersionNotFound) => {
                return Err(repository::Error::from(MissingEvents(version.get())).into());
            }
            session => session?,
        };
        let outcome = WriteOutcome::new(CachedSession::from(session));
        Ok(Some(WriteOutcome { replayed: true, ..outcome }))
    }

    /// Stores the key of a request that changed nothing. `false`: another request has used the key
    /// meanwhile.
    pub(super) async fn record_noop(
        &self,
        caller: &Caller,
        session: &Session,
        options: &WriteOptions,
    ) -> Result<bool, Error> {
        let Some(key) = options.idempotency_key.as_ref().filter(|_| !options.dry_run) else {
            return Ok(true);
        };
        let (id, version) = (session.id, session.version);
        let (pool, now) = (self.admit(caller).await?, self.shared().clock.now());
        let inserting = idempotency::insert(&pool, caller.app(), key, id, version, now);
        match trace_single_statement("idempotency.insert", inserting).await {
            Ok(()) => Ok(true),
            Err(repository::Error::DuplicateIdempotencyKey) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes expired keys and unused consumers at intervals. Never completes.
    pub async fn run_pruner(&self) {
        let shared = self.shared();
        let pruner = Pruner { rows: "idempotency keys", interval: PRUNE_INTERVAL };
        let prune = || {
            let now = shared.clock.now();
            Pruner::delete_all(move |limit| idempotency::prune(&shared.pool, now, limit))
        };
        tokio::join!(pruner.run(prune), self.run_consumer_pruner());
    }
}
