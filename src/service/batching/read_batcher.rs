//! Sessions out of the database, as many in one statement as are wanted at the time.
//!
//! Whoever asks while a statement is on its way is in the next one; who asks while none is starts
//! one at once. There is no timer: an idle system waits for nothing.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use super::commands::PendingRead;
use super::context::Context;
use super::waiters::{Bisection, Waiters};
use super::{queue, waiters};
use crate::domain::{Session, SessionId};
use crate::repository;
use crate::repository::dedicated_connection::Line;
use crate::repository::sessions;
use crate::service::session_cache::Mark;
use crate::service::{Error, KnownSession};
use crate::telemetry::{Trace, statement};

/// What is there of the sessions that were looked for; of one that cannot be read, why.
pub(super) type ReadResults = HashMap<SessionId, Result<Arc<KnownSession>, Error>>;

/// Reads for whoever asks, until nobody can any more.
pub(super) async fn run(
    context: Arc<Context>,
    mut receiver: queue::BatchReceiver<SessionId, Option<Arc<KnownSession>>>,
) {
    let mut dedicated = Line::new(&context.pool, context.limits, context.metrics.clone());
    while let Some(commands) = receiver.recv_batch().await {
        let mut parts = Bisection::new(commands);
        while let Some(mut batch) = parts.next_batch(&context.metrics.reads) {
            let mut ids: Vec<SessionId> = batch.iter().map(|pending| pending.command).collect();
            if ids.is_empty() {
                continue;
            }
            ids.sort_unstable();
            ids.dedup();
            let traces = queue::traces(&batch);
            match read(&context, &mut dedicated, &mut batch, &ids, &traces).await {
                // Some may be much larger than others.
                Err(error) if error.may_be_of_one() && batch.is_splittable() => {
                    parts.bisect(batch, error);
                }
                found => reply_all(batch, &found.map_err(read_error)),
            }
        }
    }
}

fn reply_all(commands: Vec<PendingRead>, found: &Result<ReadResults, Error>) {
    for pending in commands {
        pending.reply.send(match found {
            Ok(found) => found.get(&pending.command).cloned().transpose(),
            Err(error) => Err(error.clone()),
        });
    }
}

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
