//! Sessions out of the database, as many in one statement as are wanted at the time.
//!
//! Whoever asks while a statement is on its way is in the next one; who asks while none is starts
//! one at once. There is no timer: an idle system waits for nothing.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use tokio::time::Instant;

use super::cache::Mark;
use super::sessions::Shared;
use super::{Error, KnownSession, queue};
use crate::domain::{Session, SessionId};
use crate::repository;
use crate::repository::line::Line;
use crate::repository::sessions;
use crate::telemetry::{Trace, statement};

/// Where sessions are asked for.
pub(super) type Queue = queue::Queue<SessionId, Option<Arc<KnownSession>>>;

/// Reads for whoever asks, until nobody can any more.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut inbox: queue::Inbox<SessionId, Option<Arc<KnownSession>>>,
) {
    let mut line = Line::new(&shared.pool, shared.limits, shared.metrics.clone());
    while let Some(wanted) = inbox.take().await {
        if wanted.is_empty() {
            continue;
        }
        let mut ids: Vec<SessionId> = wanted.iter().map(|one| one.what).collect();
        ids.sort_unstable();
        ids.dedup();
        let traces = queue::traces(&wanted);
        let found = read(&shared, &mut line, &ids, &traces, queue::by(&wanted)).await;
        for one in wanted {
            let answer = match &found {
                Ok(found) => Ok(found.get(&one.what).cloned()),
                Err(error) => Err(error.clone()),
            };
            one.reply.send(answer);
        }
    }
}

/// Reads sessions for those whose traces these are, and keeps them in the cache. It begins by then,
/// or not at all.
pub(super) async fn read(
    shared: &Shared,
    line: &mut Line,
    ids: &[SessionId],
    traces: &[Trace],
    by: Instant,
) -> Result<HashMap<SessionId, Arc<KnownSession>>, Error> {
    let marks: HashMap<SessionId, Mark> =
        ids.iter().map(|id| (*id, shared.cache.mark(*id))).collect();
    let found = match find(shared, line, ids, traces, by).await {
        // A connection broke, not necessarily by this. Reading changes nothing.
        Err(error) if error.is_lost() => {
            find(shared, line, ids, traces, by).await.map_err(|error| match error.is_lost() {
                true => Error::Unavailable(Arc::new(error)),
                false => error.into(),
            })?
        }
        found => found?,
    };
    let known = found.into_iter().map(|session| {
        let session = Arc::new(KnownSession::from(session));
        if let Some(mark) = marks.get(&session.id) {
            shared.cache.keep(*mark, &session);
        }
        (session.id, session)
    });
    Ok(known.collect())
}

async fn find(
    shared: &Shared,
    line: &mut Line,
    ids: &[SessionId],
    traces: &[Trace],
    by: Instant,
) -> Result<Vec<Session>, repository::Error> {
    let mut connection = line.take(by).await?;
    let found = {
        // Pinned where it is made: it is large, and would be moved into each that waits for it.
        let finding = pin!(sessions::find(&mut connection, ids));
        let counted = shared.metrics.reads.count(ids.len(), line.bounded(finding));
        statement("sessions.find", ids.len(), traces, counted).await
    };
    line.give_back(connection, &found);
    found
}
