//! Reads sessions from the database into the cache, for all batchers.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use super::context::Context;
use super::waiters::{self, Waiters};
use crate::domain::{Session, SessionId};
use crate::repository;
use crate::repository::connections::dedicated_connection::DedicatedConnection;
use crate::repository::sessions;
use crate::service::session_cache::FillToken;
use crate::service::{CachedSession, Error};
use crate::telemetry::{Trace, trace_statement};

/// The existing sessions by id. `Err`: the session exists, but its stored form is invalid.
pub(super) type ReadResults = HashMap<SessionId, Result<Arc<CachedSession>, Error>>;

/// Reads sessions for `waiters` into the cache. The statement is linked to `traces`. The result is
/// empty if every waiter is gone before the statement starts.
///
/// # Errors
/// The database fails. [`read_error`] maps the error.
pub(super) async fn read(
    context: &Context,
    dedicated: &mut DedicatedConnection,
    waiters: &mut impl Waiters,
    ids: &[SessionId],
    traces: &[Trace],
) -> Result<ReadResults, repository::Error> {
    let fill_tokens: HashMap<SessionId, FillToken> =
        ids.iter().map(|id| (*id, context.cache.begin_fill(*id))).collect();
    let found = match find(context, dedicated, waiters, ids, traces).await {
        // The connection may have been broken before this statement. A read can be repeated.
        Err(error) if error.is_outcome_unknown() => {
            find(context, dedicated, waiters, ids, traces).await?
        }
        found => found?,
    };
    let found = into_cached(found);
    for (id, session) in &found {
        if let (Some(fill_token), Ok(session)) = (fill_tokens.get(id), session) {
            context.cache.fill(*fill_token, session);
        }
    }
    Ok(found)
}

/// Maps the error of a failed read. A read whose outcome is unknown is reported as unavailable,
/// because it changed nothing.
pub(super) fn read_error(error: repository::Error) -> Error {
    match error.is_outcome_unknown() {
        true => Error::Unavailable(Arc::new(error)),
        false => error.into(),
    }
}

/// Converts the sessions to the form that the cache stores.
pub(super) fn into_cached(
    found: Vec<(SessionId, Result<Session, repository::Error>)>,
) -> ReadResults {
    let results = found.into_iter().map(|(id, session)| {
        let session = session.map(|session| Arc::new(CachedSession::from(session)));
        (id, session.map_err(Error::from))
    });
    results.collect()
}

/// Like [`sessions::find`], or empty if every waiter is gone.
async fn find(
    context: &Context,
    dedicated: &mut DedicatedConnection,
    waiters: &mut impl Waiters,
    ids: &[SessionId],
    traces: &[Trace],
) -> Result<Vec<(SessionId, Result<Session, repository::Error>)>, repository::Error> {
    let connection = waiters::acquire_for(dedicated, waiters, &context.metrics.reads).await?;
    let Some(connection) = connection else { return Ok(Vec::new()) };
    // Pinned here: the future is large, and each wrapper would move it.
    let finding = pin!(dedicated.run(connection, |mut connection| async move {
        let found = sessions::find(&mut *connection, ids).await;
        (connection, found)
    }));
    let counted = context.metrics.reads.measure(ids.len(), finding);
    trace_statement("sessions.find", ids.len(), traces, counted).await
}
