//! Queues whose tasks take all that waits at once, and answer each.
//!
//! Whoever would wait for too long is told so at once: a queue that can only grow helps nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::wait_estimator::Pace;
use super::waiters::Waiting;
use crate::metrics::Statements;
use crate::service::Error;
use crate::telemetry::Trace;

/// So often one alone is taken until nobody else is looked for.
const ALONE: u32 = 3;
/// About as many rows are taken at once; of what is larger, one. So the small ones that come together with
/// large ones do not wait for all of them, and what is taken ends long before its time is over.
const ROWS: usize = 4_096;

/// What can be asked for.
pub(in crate::service) trait Asked {
    /// How many rows it writes, about; 1 if nobody knows.
    fn rows(&self) -> usize;
}

/// Where something is handed in. Clones are the same queue.
pub(in crate::service) struct Queue<W, A> {
    sender: mpsc::Sender<Wanted<W, A>>,
    flow: Arc<Flow>,
}

/// Where it is taken out.
pub(super) struct Inbox<W, A> {
    receiver: mpsc::Receiver<Wanted<W, A>>,
    flow: Arc<Flow>,
    /// What came, but would have been too much with those before.
    next: Option<Wanted<W, A>>,
    /// How often in a row one alone was taken.
    alone: u32,
}

/// What both ends know.
struct Flow {
    pace: Pace,
    /// How many are taken at once.
    most: usize,
    /// Rows that wait; for a moment less than nothing, as they may be taken before they are counted.
    rows: AtomicI64,
    count: Arc<Statements>,
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
    let pace = Pace::new(Instant::now(), patience);
    let flow = Arc::new(Flow { pace, most, rows: AtomicI64::new(0), count: count.clone() });
    (Queue { sender, flow: flow.clone() }, Inbox { receiver, flow, next: None, alone: 0 })
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

    fn dismiss(&mut self, now: Instant, why: impl Fn() -> Error) -> usize {
        self.retain(|one| !one.reply.0.is_closed());
        let late = self.extract_if(.., |one| one.by <= now);
        late.map(|one| one.reply.send(Err(why()))).count()
    }

    fn are_many(&self) -> bool {
        self.len() > 1
    }

    fn split(&mut self) -> Self {
        self.split_off(self.len() / 2)
    }
}

impl<W: Asked, A> Queue<W, A> {
    /// Hands something to the task, and waits for what becomes of it. It begins by then or not at
    /// all; if it would be later by how fast things go, that is said at once. Whoever drops this
    /// before it has begun has not asked.
    pub(in crate::service) async fn ask(&self, what: W, by: Instant) -> Result<A, Error> {
        let now = Instant::now();
        if by <= now {
            return Err(Error::queued_too_long());
        }
        let flow = &self.flow;
        let wait = flow.wait(self.sender.max_capacity() - self.sender.capacity(), now);
        if now + wait > by {
            flow.count.turned_away.inc();
            return Err(Error::Overloaded { wait });
        }
        let rows = what.rows();
        let (reply, answer) = oneshot::channel();
        let trace = Trace::current();
        match self.sender.try_send(Wanted { what, by, trace, reply: Reply(reply) }) {
            Ok(()) => flow.queued(rows),
            Err(mpsc::error::TrySendError::Full(_)) => {
                flow.count.turned_away.inc();
                return Err(Error::Overloaded { wait });
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Error::queued_too_long()),
        }
        // The task answers everybody, unless it ended: then the service ends.
        answer.await.unwrap_or_else(|_| Err(Error::queued_too_long()))
    }
}

impl<W, A> Queue<W, A> {
    #[cfg(test)]
    pub(super) fn is(&self, other: &Self) -> bool {
        self.sender.same_channel(&other.sender)
    }
}

impl<W, A> Clone for Queue<W, A> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), flow: self.flow.clone() }
    }
}

impl Flow {
    /// How long to wait behind so many.
    fn wait(&self, waiting: usize, now: Instant) -> Duration {
        // One is enough to find out whether the database answers again.
        let turns = match self.pace.is_stuck() {
            true => waiting,
            false => (waiting / self.most).max(self.rows() / ROWS),
        };
        self.pace.wait(turns, now)
    }

    fn rows(&self) -> usize {
        usize::try_from(self.rows.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// One more waits, that has so many rows.
    fn queued(&self, rows: usize) {
        self.rows.fetch_add(signed(rows), Ordering::Relaxed);
        self.count.queued.add(1);
    }

    /// Some wait no longer, that have so many rows.
    fn taken(&self, some: usize, rows: usize) {
        self.rows.fetch_sub(signed(rows), Ordering::Relaxed);
        self.count.queued.add(-signed(some));
    }
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl<W: Asked, A> Inbox<W, A> {
    /// Takes what somebody still waits for, as soon as there is something, with what has come until
    /// then; perhaps nothing is left of that. Who waited too long is told. `None` when nobody can ask any more.
    ///
    /// What was taken before is done with then: how long that took is how fast things go.
    pub(super) async fn take(&mut self) -> Option<Vec<Wanted<W, A>>> {
        let now = Instant::now();
        if let Some(took) = self.flow.pace.lasted(now) {
            self.flow.pace.end(now, took, false);
        }
        let first = match self.next.take() {
            Some(first) => first,
            None => self.receiver.recv().await?,
        };
        let mut rows = first.what.rows();
        let mut wanted = Vec::with_capacity(self.flow.most);
        wanted.push(first);
        self.take_more(&mut wanted, &mut rows);
        // Others may be on their way: answered at the same time, clients ask again at the same time,
        // and it is the first who comes here. Whoever has arrived by now is let through before; as
        // long as somebody was, there may be more. Nobody is waited for, and who has been alone for a
        // while does not look round; nor does whoever must find out whether anything works.
        while self.alone < ALONE && self.has_room(&wanted) && !self.flow.pace.is_stuck() {
            tokio::task::yield_now().await;
            if !self.take_more(&mut wanted, &mut rows) {
                break;
            }
        }
        self.alone = if wanted.len() > 1 { 0 } else { self.alone.saturating_add(1) };
        self.flow.taken(wanted.len(), rows);
        let now = Instant::now();
        self.flow.count.turned_away.add(wanted.dismiss(now, Error::queued_too_long) as u64);
        // To turn some away is no turn: it says nothing about how fast things go.
        if !wanted.is_empty() {
            self.flow.pace.begin(now);
        }
        Some(wanted)
    }

    /// Whether more could be taken with these.
    fn has_room(&self, wanted: &[Wanted<W, A>]) -> bool {
        self.next.is_none() && wanted.len() < self.flow.most
    }

    /// Takes what has come, as far as there is room: whether that was anything.
    fn take_more(&mut self, wanted: &mut Vec<Wanted<W, A>>, rows: &mut usize) -> bool {
        let before = wanted.len();
        while self.has_room(wanted)
            && let Ok(one) = self.receiver.try_recv()
        {
            let with_it = rows.saturating_add(one.what.rows());
            if with_it > ROWS {
                self.next = Some(one);
            } else {
                *rows = with_it;
                wanted.push(one);
            }
        }
        wanted.len() > before
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

    impl Asked for u32 {
        fn rows(&self) -> usize {
            *self as usize
        }
    }

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
    async fn what_is_large_comes_with_few_others_or_alone() {
        let (queue, mut inbox) = of(64);
        let by = Instant::now() + Duration::from_secs(60);
        for number in [4_000, 90, 7, 5, 9_999, 1] {
            let queue = queue.clone();
            tokio::spawn(async move { queue.ask(number, by).await });
        }
        let mut taken = Vec::new();
        while taken.iter().map(Vec::len).sum::<usize>() < 6 {
            let wanted = inbox.take().await.unwrap();
            taken.push(wanted.into_iter().map(|one| one.what).collect());
        }
        assert_eq!(taken, [vec![4_000, 90], vec![7, 5], vec![9_999], vec![1]]);
        assert_eq!(queue.flow.rows.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_behind_too_much_is_told_at_once() {
        let (queue, mut inbox) = of(64);
        let ask = |number, seconds| {
            let (queue, by) = (queue.clone(), Instant::now() + Duration::from_secs(seconds));
            tokio::spawn(async move { queue.ask(number, by).await })
        };
        ask(1, 60);
        drop(inbox.take().await.unwrap());
        tokio::time::sleep(Duration::from_secs(8)).await;
        // One turn took eight seconds, so they think one second; there are three before the last.
        for _ in 0..3 {
            ask(4_000, 60);
        }
        assert_eq!(inbox.take().await.unwrap().len(), 1);
        tokio::task::yield_now().await;
        assert!(matches!(ask(1, 1).await.unwrap(), Err(Error::Overloaded { .. })));
        assert!(!ask(1, 60).is_finished());
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
