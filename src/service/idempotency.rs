//! Idempotency keys: a request with a key is done once, however often it is sent.
//!
//! A key is stored with the session and the version that the request resulted in. The response to a
//! repeated request is read from the history. The key of a rejected request is not stored: nothing
//! was done, so the request may be tried again.

use std::sync::Arc;
use std::time::Duration;

use super::sessions::{Done, Terms};
use super::{Caller, Error, Pruner, Sessions};
use crate::domain::Session;
use crate::repository;
use crate::repository::history::{self, Until};
use crate::repository::idempotency;
use crate::telemetry::own_statement;

/// How often expired keys are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

impl Sessions {
    /// The outcome of an earlier request with this key, if there was one.
    pub(super) async fn done_before(
        &self,
        caller: &Caller,
        terms: &Terms,
    ) -> Result<Option<Done>, Error> {
        let Some(key) = terms.key.as_ref().filter(|_| !terms.dry_run) else { return Ok(None) };
        let (app, now) = (caller.app(), self.shared().clock.now());
        let pool = self.pool(caller)?;
        let finding = idempotency::find(&pool, app, key.name(), now);
        let Some(kept) = own_statement("idempotency.find", finding).await? else {
            return Ok(None);
        };
        if kept.expired {
            let forgetting = idempotency::forget(&pool, app, key.name(), now);
            own_statement("idempotency.forget", forgetting).await?;
            return Ok(None);
        }
        if kept.digest != *key.digest() {
            return Err(Error::KeyReused);
        }
        let until = Until::Version(kept.version);
        let reading = history::until(&pool, app.buin, kept.session_id, until);
        let events = own_statement("history.until", reading).await?;
        let session =
            Session::replay(kept.session_id, app.buin, events).map_err(repository::Error::from)?;
        Ok(Some(Done { session: Arc::new(session.into()), replayed: true }))
    }

    /// Stores the key of a request that changed nothing. `false`: another request has used the key
    /// meanwhile.
    pub(super) async fn nothing_to_do(
        &self,
        caller: &Caller,
        session: &Session,
        terms: &Terms,
    ) -> Result<bool, Error> {
        let Some(key) = terms.key.as_ref().filter(|_| !terms.dry_run) else { return Ok(true) };
        let (id, version) = (session.id, session.version);
        let (pool, now) = (self.pool(caller)?, self.shared().clock.now());
        let inserting = idempotency::insert(&pool, caller.app(), key, id, version, now);
        match own_statement("idempotency.insert", inserting).await {
            Ok(()) => Ok(true),
            Err(repository::Error::KeyTaken) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes expired keys, at intervals. Runs until it is dropped.
    pub async fn forget_old_requests(&self) {
        let shared = self.shared();
        let pruner = Pruner { rows: "idempotency keys", interval: PRUNE_INTERVAL };
        let prune = || {
            let now = shared.clock.now();
            Pruner::delete_all(move |most| idempotency::prune(&shared.pool, now, most))
        };
        pruner.run(prune).await;
    }
}
