//! Queues whose tasks take all that waits at once, and answer each.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Error;
use crate::metrics::Statements;

/// Something that somebody waits for.
pub(super) struct Wanted<W, A> {
    /// What it is.
    pub(super) what: W,
    /// It must have begun by then, or not at all.
    until: Instant,
    /// Who waits.
    pub(super) reply: Reply<A>,
}

/// Somebody who waits for an answer.
pub(super) struct Reply<A>(oneshot::Sender<Result<A, Error>>);

impl<A> Reply<A> {
    /// Tells what became of it. Who asked may have gone.
    pub(super) fn send(self, answer: Result<A, Error>) {
        let _ = self.0.send(answer);
    }
}

/// Hands something to a task, and waits for what becomes of it. It must begin `within` that time.
pub(super) async fn ask<W, A>(
    queue: &mpsc::Sender<Wanted<W, A>>,
    count: &Statements,
    what: W,
    within: Duration,
) -> Result<A, Error> {
    let (reply, answer) = oneshot::channel();
    let wanted = Wanted { what, until: Instant::now() + within, reply: Reply(reply) };
    // Whoever finds the queue full would wait for longer than anybody wants to.
    if queue.try_send(wanted).is_err() {
        count.turned_away.inc();
        return Err(Error::queued_too_long());
    }
    count.queued.add(1);
    // The task answers everybody, unless it ended: then the service ends.
    answer.await.unwrap_or_else(|_| Err(Error::queued_too_long()))
}

/// Takes up to `most` that somebody still waits for, as soon as there is one; perhaps none is left
/// of those. Who waited too long is told. `None` when nobody can ask any more.
pub(super) async fn take<W, A>(
    queue: &mut mpsc::Receiver<Wanted<W, A>>,
    count: &Statements,
    most: usize,
) -> Option<Vec<Wanted<W, A>>> {
    let mut wanted = Vec::with_capacity(most);
    let taken = queue.recv_many(&mut wanted, most).await;
    if taken == 0 {
        return None;
    }
    count.queued.add(-i64::try_from(taken).unwrap_or(i64::MAX));
    let now = Instant::now();
    wanted.retain(|one| !one.reply.0.is_closed());
    for late in wanted.extract_if(.., |one| one.until <= now) {
        count.turned_away.inc();
        late.reply.send(Err(Error::queued_too_long()));
    }
    Some(wanted)
}
