//! Queues whose tasks take all that waits at once, and answer each.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Error;

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
    what: W,
    within: Duration,
) -> Result<A, Error> {
    let (reply, answer) = oneshot::channel();
    let wanted = Wanted { what, until: Instant::now() + within, reply: Reply(reply) };
    // Whoever finds the queue full would wait for longer than anybody wants to.
    queue.try_send(wanted).map_err(|_| Error::queued_too_long())?;
    // The task answers everybody, unless it ended: then the service ends.
    answer.await.unwrap_or_else(|_| Err(Error::queued_too_long()))
}

/// Takes up to `most` that somebody still waits for, as soon as there is one; perhaps none is left
/// of those. Who waited too long is told. `None` when nobody can ask any more.
pub(super) async fn take<W, A>(
    queue: &mut mpsc::Receiver<Wanted<W, A>>,
    most: usize,
) -> Option<Vec<Wanted<W, A>>> {
    let mut wanted = Vec::with_capacity(most);
    if queue.recv_many(&mut wanted, most).await == 0 {
        return None;
    }
    let now = Instant::now();
    wanted.retain(|one| !one.reply.0.is_closed());
    for late in wanted.extract_if(.., |one| one.until <= now) {
        late.reply.send(Err(Error::queued_too_long()));
    }
    Some(wanted)
}
