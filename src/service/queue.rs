//! Queues whose tasks take all that waits at once, and answer each.
//!
//! Whoever would wait for too long is told so at once: a queue that can only grow helps nobody.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Error;
use super::pace::Pace;
use super::waiting::Waiting;
use crate::metrics::Statements;
use crate::telemetry::Trace;

/// So often one alone is taken until nobody else is looked for.
const ALONE: u32 = 3;

/// Where something is handed in. Clones are the same queue.
pub(super) struct Queue<W, A> {
    sender: mpsc::Sender<Wanted<W, A>>,
    pace: Arc<Pace>,
    most: usize,
    count: Arc<Statements>,
}

/// Where it is taken out.
pub(super) struct Inbox<W, A> {
    receiver: mpsc::Receiver<Wanted<W, A>>,
    pace: Arc<Pace>,
    most: usize,
    count: Arc<Statements>,
    /// How often in a row one alone was taken.
    alone: u32,
}

/// Something that somebody waits for.
pub(super) struct Wanted<W, A> {
    /// What it is.
    pub(super) what: W,
    /// It must have begun by then, or not at all.
    pub(super) by: Instant,
    /// The trace of the request that it is for.
    pub(super) trace: Option<Trace>,
    /// Who waits.
    pub(super) reply: Reply<A>,
}

/// Somebody who waits for an answer.
pub(super) struct Reply<A>(oneshot::Sender<Result<A, Error>>);

/// A queue in which up to `longest` wait, of which up to `most` are taken at once, for work that is
/// cut off after `patience`. Who waits is counted.
pub(super) fn queue<W, A>(
    longest: usize,
    most: usize,
    patience: Duration,
    count: &Arc<Statements>,
) -> (Queue<W, A>, Inbox<W, A>) {
    let (sender, receiver) = mpsc::channel(longest);
    let pace = Arc::new(Pace::new(Instant::now(), patience));
    let queue = Queue { sender, pace: pace.clone(), most, count: count.clone() };
    (queue, Inbox { receiver, pace, most, count: count.clone(), alone: 0 })
}

impl<A> Reply<A> {
    /// Tells what became of it. Who asked may have gone.
    pub(super) fn send(self, answer: Result<A, Error>) {
        let _ = self.0.send(answer);
    }
}

impl<W, A> Waiting for Vec<Wanted<W, A>> {
    fn times(&self) -> impl Iterator<Item = Instant> {
        self.iter().map(|one| one.by)
    }

    fn dismiss(&mut self, now: Instant) -> usize {
        self.retain(|one| !one.reply.0.is_closed());
        let late = self.extract_if(.., |one| one.by <= now);
        late.map(|one| one.reply.send(Err(Error::queued_too_long()))).count()
    }
}

impl<W, A> Queue<W, A> {
    /// Hands something to the task, and waits for what becomes of it. It begins by then or not at
    /// all; if it would be later by how fast things go, that is said at once. Whoever drops this
    /// before it has begun has not asked.
    pub(super) async fn ask(&self, what: W, by: Instant) -> Result<A, Error> {
        let now = Instant::now();
        if by <= now {
            return Err(Error::queued_too_long());
        }
        let count = &self.count;
        let waiting = self.sender.max_capacity() - self.sender.capacity();
        // One is enough to find out whether the database answers again.
        let turns = if self.pace.is_stuck() { waiting } else { waiting / self.most };
        let wait = self.pace.wait(turns, now);
        if now + wait > by {
            count.turned_away.inc();
            return Err(Error::Overloaded { wait });
        }
        let (reply, answer) = oneshot::channel();
        let trace = Trace::current();
        match self.sender.try_send(Wanted { what, by, trace, reply: Reply(reply) }) {
            Ok(()) => count.queued.add(1),
            Err(mpsc::error::TrySendError::Full(_)) => {
                count.turned_away.inc();
                return Err(Error::Overloaded { wait });
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Error::queued_too_long()),
        }
        // The task answers everybody, unless it ended: then the service ends.
        answer.await.unwrap_or_else(|_| Err(Error::queued_too_long()))
    }

    #[cfg(test)]
    pub(super) fn is(&self, other: &Self) -> bool {
        self.sender.same_channel(&other.sender)
    }
}

impl<W, A> Clone for Queue<W, A> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            pace: self.pace.clone(),
            most: self.most,
            count: self.count.clone(),
        }
    }
}

impl<W, A> Inbox<W, A> {
    /// Takes what somebody still waits for, as soon as there is something, with what has come until
    /// then; perhaps nothing is left of that. Who waited too long is told. `None` when nobody can ask any more.
    ///
    /// What was taken before is done with then: how long that took is how fast things go.
    pub(super) async fn take(&mut self) -> Option<Vec<Wanted<W, A>>> {
        let now = Instant::now();
        if let Some(took) = self.pace.lasted(now) {
            self.pace.end(now, took, false);
        }
        let mut wanted = Vec::with_capacity(self.most);
        let mut taken = self.receiver.recv_many(&mut wanted, self.most).await;
        if taken == 0 {
            return None;
        }
        // Others may be on their way: answered at the same time, clients ask again at the same time,
        // and it is the first who comes here. Whoever has arrived by now is let through before; as
        // long as somebody was, there may be more. Nobody is waited for, and who has been alone for a
        // while does not look round; nor does whoever must find out whether anything works.
        while self.alone < ALONE && taken < self.most && !self.pace.is_stuck() {
            tokio::task::yield_now().await;
            let before = taken;
            while taken < self.most
                && let Ok(one) = self.receiver.try_recv()
            {
                wanted.push(one);
                taken += 1;
            }
            if taken == before {
                break;
            }
        }
        self.alone = if taken > 1 { 0 } else { self.alone.saturating_add(1) };
        self.count.queued.add(-i64::try_from(taken).unwrap_or(i64::MAX));
        let now = Instant::now();
        self.count.turned_away.add(wanted.dismiss(now) as u64);
        // To turn some away is no turn: it says nothing about how fast things go.
        if !wanted.is_empty() {
            self.pace.begin(now);
        }
        Some(wanted)
    }
}

/// The traces of some of these.
pub(super) fn traces<'a, W: 'a, A: 'a>(
    wanted: impl IntoIterator<Item = &'a Wanted<W, A>>,
) -> Vec<Trace> {
    wanted.into_iter().filter_map(|one| one.trace.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five who come one after the other, each when the one before has been let through.
    async fn takes(queue: &Queue<u32, ()>, inbox: &mut Inbox<u32, ()>) -> Vec<u32> {
        let by = Instant::now() + Duration::from_secs(60);
        for number in 0..5 {
            let queue = queue.clone();
            tokio::spawn(async move {
                for _ in 0..number {
                    tokio::task::yield_now().await;
                }
                queue.ask(number, by).await
            });
        }
        let wanted = inbox.take().await.unwrap();
        wanted.into_iter().map(|one| one.what).collect()
    }

    fn of(most: usize) -> (Queue<u32, ()>, Inbox<u32, ()>) {
        queue(64, most, Duration::from_secs(60), &Arc::default())
    }

    #[tokio::test]
    async fn who_has_arrived_is_taken_with_the_first() {
        let (queue, mut inbox) = of(64);
        assert_eq!(takes(&queue, &mut inbox).await, [0, 1, 2, 3, 4]);
        let (queue, mut inbox) = of(3);
        assert_eq!(takes(&queue, &mut inbox).await, [0, 1, 2]);
    }

    #[tokio::test]
    async fn who_is_alone_does_not_look_round() {
        let (queue, mut inbox) = of(64);
        for number in 0..ALONE {
            let queue = queue.clone();
            let by = Instant::now() + Duration::from_secs(60);
            tokio::spawn(async move { queue.ask(number, by).await });
            assert_eq!(inbox.take().await.unwrap().len(), 1);
        }
        assert_eq!(takes(&queue, &mut inbox).await, [0]);
    }
}
