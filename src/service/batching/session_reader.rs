//! Reads sessions from the database into the cache, for any batcher.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use super::context::Context;
use super::waiters::{self, Waiters};
use crate::domain::{Session, SessionId};
use crate::repository;
use crate::repository::line::Line;
use crate::repository::sessions;
use crate::service::session_cache::Mark;
use crate::service::{Error, KnownSession};
use crate::telemetry::{Trace, statement};

/// What is there of the sessions that were looked for; of one that cannot be read, why.
pub(super) type ReadResults = HashMap<SessionId, Result<Arc<KnownSession>, Error>>;

/// Reads sessions for those who wait, whose traces these are, and keeps them in the cache.
///
/// # Errors
/// When the database fails; [`read_error`] says what that means.
pub(super) async fn read(
    context: &Context,
    dedicated: &mut Line,
    waiters: &mut impl Waiters,
    ids: &[SessionId],
    traces: &[Trace],
) -> Result<ReadResults, repository::Error> {
    let fill_tokens: HashMap<SessionId, Mark> =
        ids.iter().map(|id| (*id, context.cache.mark(*id))).collect();
    let found = match find(context, dedicated, waiters, ids, traces).await {
        // A connection broke, not necessarily by this.
        Err(error) if error.is_lost() => find(context, dedicated, waiters, ids, traces).await?,
        found => found?,
    };
    let found = into_cached(found);
    for (id, session) in &found {
        if let (Some(fill_token), Ok(session)) = (fill_tokens.get(id), session) {
            context.cache.keep(*fill_token, session);
        }
    }
    Ok(found)
}

/// Why nothing was read. That nobody knows what became of it is nobody's trouble: nothing was changed.
pub(super) fn read_error(error: repository::Error) -> Error {
    match error.is_lost() {
        true => Error::Unavailable(Arc::new(error)),
        false => error.into(),
    }
}

/// What was found, as it is held and shared.
pub(super) fn into_cached(
    found: Vec<(SessionId, Result<Session, repository::Error>)>,
) -> ReadResults {
    let known = found.into_iter().map(|(id, session)| {
        let session = session.map(|session| Arc::new(KnownSession::from(session)));
        (id, session.map_err(Error::from))
    });
    known.collect()
}

/// As [`sessions::find`]; nothing if nobody waits any more.
async fn find(
    context: &Context,
    dedicated: &mut Line,
    waiters: &mut impl Waiters,
    ids: &[SessionId],
    traces: &[Trace],
) -> Result<Vec<(SessionId, Result<Session, repository::Error>)>, repository::Error> {
    let connection = waiters::acquire_for(dedicated, waiters, &context.metrics.reads).await?;
    let Some(mut connection) = connection else { return Ok(Vec::new()) };
    let found = {
        // Pinned where it is made: it is large, and would be moved into each that waits for it.
        let finding = pin!(sessions::find(&mut connection, ids));
        let counted = context.metrics.reads.count(ids.len(), dedicated.bounded(finding));
        statement("sessions.find", ids.len(), traces, counted).await
    };
    dedicated.give_back(connection, &found);
    found
}
