//! Sessions out of the database, as many in one statement as are wanted at the time.
//!
//! Whoever asks while a statement is on its way is in the next one; who asks while none is starts
//! one at once. There is no timer: an idle system waits for nothing.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use super::commands::PendingRead as Wanted;
use super::context::Shared;
use super::waiters::{Parts, Waiting};
use super::{queue, waiters};
use crate::domain::{Session, SessionId};
use crate::repository;
use crate::repository::line::Line;
use crate::repository::sessions;
use crate::service::session_cache::Mark;
use crate::service::{Error, KnownSession};
use crate::telemetry::{Trace, statement};

/// What is there of the sessions that were looked for; of one that cannot be read, why.
pub(super) type Found = HashMap<SessionId, Result<Arc<KnownSession>, Error>>;

/// Reads for whoever asks, until nobody can any more.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut inbox: queue::Inbox<SessionId, Option<Arc<KnownSession>>>,
) {
    let mut line = Line::new(&shared.pool, shared.limits, shared.metrics.clone());
    while let Some(wanted) = inbox.take().await {
        let mut parts = Parts::of(wanted);
        while let Some(mut part) = parts.next(&shared.metrics.reads) {
            let mut ids: Vec<SessionId> = part.iter().map(|one| one.what).collect();
            if ids.is_empty() {
                continue;
            }
            ids.sort_unstable();
            ids.dedup();
            let traces = queue::traces(&part);
            match read(&shared, &mut line, &mut part, &ids, &traces).await {
                // Some may be much larger than others.
                Err(error) if error.may_be_of_one() && part.are_many() => {
                    parts.in_halves(part, error);
                }
                found => answer(part, &found.map_err(unread)),
            }
        }
    }
}

fn answer(wanted: Vec<Wanted>, found: &Result<Found, Error>) {
    for one in wanted {
        one.reply.send(match found {
            Ok(found) => found.get(&one.what).cloned().transpose(),
            Err(error) => Err(error.clone()),
        });
    }
}

/// Reads sessions for those who wait, whose traces these are, and keeps them in the cache.
///
/// # Errors
/// When the database fails; [`unread`] says what that means.
pub(super) async fn read(
    shared: &Shared,
    line: &mut Line,
    waiting: &mut impl Waiting,
    ids: &[SessionId],
    traces: &[Trace],
) -> Result<Found, repository::Error> {
    let marks: HashMap<SessionId, Mark> =
        ids.iter().map(|id| (*id, shared.cache.mark(*id))).collect();
    let found = match find(shared, line, waiting, ids, traces).await {
        // A connection broke, not necessarily by this.
        Err(error) if error.is_lost() => find(shared, line, waiting, ids, traces).await?,
        found => found?,
    };
    let found = known(found);
    for (id, session) in &found {
        if let (Some(mark), Ok(session)) = (marks.get(id), session) {
            shared.cache.keep(*mark, session);
        }
    }
    Ok(found)
}

/// Why nothing was read. That nobody knows what became of it is nobody's trouble: nothing was changed.
pub(super) fn unread(error: repository::Error) -> Error {
    match error.is_lost() {
        true => Error::Unavailable(Arc::new(error)),
        false => error.into(),
    }
}

/// What was found, as it is held and shared.
pub(super) fn known(found: Vec<(SessionId, Result<Session, repository::Error>)>) -> Found {
    let known = found.into_iter().map(|(id, session)| {
        let session = session.map(|session| Arc::new(KnownSession::from(session)));
        (id, session.map_err(Error::from))
    });
    known.collect()
}

/// As [`sessions::find`]; nothing if nobody waits any more.
async fn find(
    shared: &Shared,
    line: &mut Line,
    waiting: &mut impl Waiting,
    ids: &[SessionId],
    traces: &[Trace],
) -> Result<Vec<(SessionId, Result<Session, repository::Error>)>, repository::Error> {
    let connection = waiters::connection(line, waiting, &shared.metrics.reads).await?;
    let Some(mut connection) = connection else { return Ok(Vec::new()) };
    let found = {
        // Pinned where it is made: it is large, and would be moved into each that waits for it.
        let finding = pin!(sessions::find(&mut connection, ids));
        let counted = shared.metrics.reads.count(ids.len(), line.bounded(finding));
        statement("sessions.find", ids.len(), traces, counted).await
    };
    line.give_back(connection, &found);
    found
}
