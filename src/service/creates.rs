//! New sessions, as many in one statement as begin at the time.

use std::pin::pin;
use std::sync::Arc;

use super::cache::Mark;
use super::queue::Asked;
use super::sessions::Shared;
use super::waiting::{Parts, Waiting as _};
use super::{KnownApp, KnownSession, queue, waiting};
use crate::domain::{IdempotencyKey, Reason};
use crate::repository;
use crate::repository::dedicated_connection::Line;
use crate::repository::sessions::{self, Creation, Provenance};
use crate::telemetry::statement;

/// A session that somebody begins.
pub(super) struct Creating {
    pub(super) app: Arc<KnownApp>,
    pub(super) session: Arc<KnownSession>,
    /// Taken before it is written.
    pub(super) mark: Mark,
    pub(super) reason: Option<Reason>,
    pub(super) key: Option<IdempotencyKey>,
}

impl Asked for Creating {
    fn rows(&self) -> usize {
        1 + self.session.members.len()
    }
}

/// Somebody who waits for it.
type Wanted = queue::Wanted<Creating, Created>;

/// Where sessions are begun.
pub(super) type Queue = queue::Queue<Creating, Created>;

/// What became of it.
pub(super) enum Created {
    /// It is written.
    Written,
    /// A request of this name was done before: nothing is written.
    KeyTaken,
}

fn creation(Wanted { what, trace, .. }: &Wanted) -> Creation<'_> {
    Creation {
        session: &what.session,
        provenance: Provenance {
            app_id: &what.app.app.app_id,
            operator: &what.session.owner,
            reason: what.reason.as_ref(),
            key: what.key.as_ref(),
            trace: trace.as_ref(),
        },
    }
}

/// Writes for whoever asks, until nobody can any more.
pub(super) async fn run(shared: Arc<Shared>, mut inbox: queue::Inbox<Creating, Created>) {
    let mut line = Line::new(&shared.pool, shared.limits, shared.metrics.clone());
    while let Some(wanted) = inbox.take().await {
        let mut parts = Parts::of(wanted);
        while let Some(mut part) = parts.next(&shared.metrics.creates) {
            match write(&shared, &mut line, &mut part).await {
                Err(error) if error.may_be_of_one() && part.are_many() => {
                    parts.in_halves(part, error);
                }
                done => answer(&shared, part, done),
            }
        }
    }
}

async fn write(
    shared: &Shared,
    line: &mut Line,
    wanted: &mut Vec<Wanted>,
) -> Result<(), repository::Error> {
    let connection = waiting::connection(line, wanted, &shared.metrics.creates).await?;
    let Some(mut connection) = connection else { return Ok(()) };
    let creations: Vec<Creation<'_>> = wanted.iter().map(creation).collect();
    let done = {
        // Pinned where it is made: it is large, and would be moved into each that waits for it.
        let inserting = pin!(sessions::insert(&mut connection, &creations));
        let counted = shared.metrics.creates.count(creations.len(), line.bounded(inserting));
        let traces = queue::traces(&*wanted);
        statement("sessions.insert", creations.len(), &traces, counted).await
    };
    line.give_back(connection, &done);
    done
}

fn answer(shared: &Shared, wanted: Vec<Wanted>, done: Result<(), repository::Error>) {
    let done = done.map_err(Arc::new);
    for Wanted { what, reply, .. } in wanted {
        reply.send(match &done {
            Ok(()) => {
                shared.cache.replace(what.mark, &what.session);
                shared.changed.tell(what.session.buin);
                Ok(Created::Written)
            }
            Err(error) if matches!(**error, repository::Error::KeyTaken) => Ok(Created::KeyTaken),
            Err(error) => Err(error.clone().into()),
        });
    }
}
