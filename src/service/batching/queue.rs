//! Queues whose tasks take all that waits at once, and answer each.
//!
//! Whoever would wait for too long is told so at once: a queue that can only grow helps nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::wait_estimator::WaitEstimator;
use super::waiters::Waiters;
use crate::metrics::Statements;
use crate::service::Error;
use crate::telemetry::Trace;

/// So often one alone is taken until nobody else is looked for.
const MAX_SINGLES: u32 = 3;
/// About as many rows are taken at once; of what is larger, one. So the small ones that come together with
/// large ones do not wait for all of them, and what is taken ends long before its time is over.
const MAX_BATCH_WEIGHT: usize = 4_096;

/// What can be asked for.
pub(in crate::service) trait BatchItem {
    /// How many rows it writes, about; 1 if nobody knows.
    fn weight(&self) -> usize;
}

/// Where something is handed in. Clones are the same queue.
pub(in crate::service) struct BatchSender<C, O> {
    sender: mpsc::Sender<Pending<C, O>>,
    state: Arc<QueueState>,
}

/// Where it is taken out.
pub(super) struct BatchReceiver<C, O> {
    receiver: mpsc::Receiver<Pending<C, O>>,
    state: Arc<QueueState>,
    /// What came, but would have been too much with those before.
    carried_over: Option<Pending<C, O>>,
    /// How often in a row one alone was taken.
    consecutive_singles: u32,
}

/// What both ends know.
struct QueueState {
    estimator: WaitEstimator,
    /// How many are taken at once.
    max_batch: usize,
    /// Rows that wait; for a moment less than nothing, as they may be taken before they are counted.
    weight: AtomicI64,
    metrics: Arc<Statements>,
}

/// Something that somebody waits for.
pub(super) struct Pending<C, O> {
    /// What it is.
    pub(super) command: C,
    /// It must have begun by then, or not at all.
    pub(super) deadline: Instant,
    /// The trace of the request that it is for.
    pub(super) trace: Option<Trace>,
    /// Who waits.
    pub(super) reply: ReplySender<O>,
}

/// Somebody who waits for an answer.
pub(super) struct ReplySender<O>(oneshot::Sender<Result<O, Error>>);

/// A queue in which up to `longest` wait, of which up to `most` are taken at once, for work that is
/// cut off after `patience`. Who waits is counted.
pub(super) fn batch_channel<C, O>(
    max_queued: usize,
    max_batch: usize,
    cutoff: Duration,
    metrics: &Arc<Statements>,
) -> (BatchSender<C, O>, BatchReceiver<C, O>) {
    let (sender, receiver) = mpsc::channel(max_queued);
    let estimator = WaitEstimator::new(Instant::now(), cutoff);
    let state = Arc::new(QueueState {
        estimator,
        max_batch,
        weight: AtomicI64::new(0),
        metrics: metrics.clone(),
    });
    (
        BatchSender { sender, state: state.clone() },
        BatchReceiver { receiver, state, carried_over: None, consecutive_singles: 0 },
    )
}

impl<O> ReplySender<O> {
    /// Tells what became of it. Who asked may have gone.
    pub(super) fn send(self, answer: Result<O, Error>) {
        let _ = self.0.send(answer);
    }
}

impl<C, O> Waiters for Vec<Pending<C, O>> {
    fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.iter().map(|pending| pending.deadline)
    }

    fn expire(&mut self, now: Instant, why: impl Fn() -> Error) -> usize {
        self.retain(|pending| !pending.reply.0.is_closed());
        let expired = self.extract_if(.., |pending| pending.deadline <= now);
        expired.map(|pending| pending.reply.send(Err(why()))).count()
    }

    fn is_splittable(&self) -> bool {
        self.len() > 1
    }

    fn split_half(&mut self) -> Self {
        self.split_off(self.len() / 2)
    }
}

impl<C: BatchItem, O> BatchSender<C, O> {
    /// Hands something to the task, and waits for what becomes of it. It begins by then or not at
    /// all; if it would be later by how fast things go, that is said at once. Whoever drops this
    /// before it has begun has not asked.
    pub(in crate::service) async fn submit(
        &self,
        command: C,
        deadline: Instant,
    ) -> Result<O, Error> {
        let now = Instant::now();
        if deadline <= now {
            return Err(Error::queued_too_long());
        }
        let state = &self.state;
        let wait = state.estimated_wait(self.sender.max_capacity() - self.sender.capacity(), now);
        if now + wait > deadline {
            state.metrics.turned_away.inc();
            return Err(Error::Overloaded { wait });
        }
        let weight = command.weight();
        let (reply, answer) = oneshot::channel();
        let trace = Trace::current();
        match self.sender.try_send(Pending { command, deadline, trace, reply: ReplySender(reply) })
        {
            Ok(()) => state.on_enqueue(weight),
            Err(mpsc::error::TrySendError::Full(_)) => {
                state.metrics.turned_away.inc();
                return Err(Error::Overloaded { wait });
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Error::queued_too_long()),
        }
        // The task answers everybody, unless it ended: then the service ends.
        answer.await.unwrap_or_else(|_| Err(Error::queued_too_long()))
    }
}

impl<C, O> BatchSender<C, O> {
    #[cfg(test)]
    pub(super) fn same_channel(&self, other: &Self) -> bool {
        self.sender.same_channel(&other.sender)
    }
}

impl<C, O> Clone for BatchSender<C, O> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), state: self.state.clone() }
    }
}

impl QueueState {
    /// How long to wait behind so many.
    fn estimated_wait(&self, queued: usize, now: Instant) -> Duration {
        // One is enough to find out whether the database answers again.
        let batches = match self.estimator.is_stalled() {
            true => queued,
            false => (queued / self.max_batch).max(self.weight() / MAX_BATCH_WEIGHT),
        };
        self.estimator.estimate(batches, now)
    }

    fn weight(&self) -> usize {
        usize::try_from(self.weight.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// One more waits, that has so many rows.
    fn on_enqueue(&self, weight: usize) {
        self.weight.fetch_add(signed(weight), Ordering::Relaxed);
        self.metrics.queued.add(1);
    }

    /// Some wait no longer, that have so many rows.
    fn on_dequeue(&self, commands: usize, weight: usize) {
        self.weight.fetch_sub(signed(weight), Ordering::Relaxed);
        self.metrics.queued.add(-signed(commands));
    }
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl<C: BatchItem, O> BatchReceiver<C, O> {
    /// Takes what somebody still waits for, as soon as there is something, with what has come until
    /// then; perhaps nothing is left of that. Who waited too long is told. `None` when nobody can ask any more.
    ///
    /// What was taken before is done with then: how long that took is how fast things go.
    pub(super) async fn recv_batch(&mut self) -> Option<Vec<Pending<C, O>>> {
        let now = Instant::now();
        if let Some(elapsed) = self.state.estimator.elapsed(now) {
            self.state.estimator.record(now, elapsed, false);
        }
        let first = match self.carried_over.take() {
            Some(first) => first,
            None => self.receiver.recv().await?,
        };
        let mut weight = first.command.weight();
        let mut batch = Vec::with_capacity(self.state.max_batch);
        batch.push(first);
        self.drain_into(&mut batch, &mut weight);
        // Others may be on their way: answered at the same time, clients ask again at the same time,
        // and it is the first who comes here. Whoever has arrived by now is let through before; as
        // long as somebody was, there may be more. Nobody is waited for, and who has been alone for a
        // while does not look round; nor does whoever must find out whether anything works.
        while self.consecutive_singles < MAX_SINGLES
            && self.has_room(&batch)
            && !self.state.estimator.is_stalled()
        {
            tokio::task::yield_now().await;
            if !self.drain_into(&mut batch, &mut weight) {
                break;
            }
        }
        self.consecutive_singles =
            if batch.len() > 1 { 0 } else { self.consecutive_singles.saturating_add(1) };
        self.state.on_dequeue(batch.len(), weight);
        let now = Instant::now();
        self.state.metrics.turned_away.add(batch.expire(now, Error::queued_too_long) as u64);
        // To turn some away is no turn: it says nothing about how fast things go.
        if !batch.is_empty() {
            self.state.estimator.start(now);
        }
        Some(batch)
    }

    /// Whether more could be taken with these.
    fn has_room(&self, batch: &[Pending<C, O>]) -> bool {
        self.carried_over.is_none() && batch.len() < self.state.max_batch
    }

    /// Takes what has come, as far as there is room: whether that was anything.
    fn drain_into(&mut self, batch: &mut Vec<Pending<C, O>>, weight: &mut usize) -> bool {
        let before = batch.len();
        while self.has_room(batch)
            && let Ok(pending) = self.receiver.try_recv()
        {
            let total = weight.saturating_add(pending.command.weight());
            if total > MAX_BATCH_WEIGHT {
                self.carried_over = Some(pending);
            } else {
                *weight = total;
                batch.push(pending);
            }
        }
        batch.len() > before
    }
}

/// The traces of some of these.
pub(super) fn traces<'a, C: 'a, O: 'a>(
    batch: impl IntoIterator<Item = &'a Pending<C, O>>,
) -> Vec<Trace> {
    batch.into_iter().filter_map(|pending| pending.trace.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl BatchItem for u32 {
        fn weight(&self) -> usize {
            *self as usize
        }
    }

    /// Five who come one after the other, each when the one before has been let through.
    async fn takes(
        queue: &BatchSender<u32, ()>,
        receiver: &mut BatchReceiver<u32, ()>,
    ) -> Vec<u32> {
        let deadline = Instant::now() + Duration::from_secs(60);
        for number in 0..5 {
            let queue = queue.clone();
            tokio::spawn(async move {
                for _ in 0..number {
                    tokio::task::yield_now().await;
                }
                queue.submit(number, deadline).await
            });
        }
        let batch = receiver.recv_batch().await.unwrap();
        batch.into_iter().map(|pending| pending.command).collect()
    }

    fn of(max_batch: usize) -> (BatchSender<u32, ()>, BatchReceiver<u32, ()>) {
        batch_channel(64, max_batch, Duration::from_secs(60), &Arc::default())
    }

    #[tokio::test]
    async fn who_has_arrived_is_taken_with_the_first() {
        let (queue, mut receiver) = of(64);
        assert_eq!(takes(&queue, &mut receiver).await, [0, 1, 2, 3, 4]);
        let (queue, mut receiver) = of(3);
        assert_eq!(takes(&queue, &mut receiver).await, [0, 1, 2]);
    }

    #[tokio::test]
    async fn what_is_large_comes_with_few_others_or_alone() {
        let (queue, mut receiver) = of(64);
        let deadline = Instant::now() + Duration::from_secs(60);
        for number in [4_000, 90, 7, 5, 9_999, 1] {
            let queue = queue.clone();
            tokio::spawn(async move { queue.submit(number, deadline).await });
        }
        let mut taken = Vec::new();
        while taken.iter().map(Vec::len).sum::<usize>() < 6 {
            let batch = receiver.recv_batch().await.unwrap();
            taken.push(batch.into_iter().map(|pending| pending.command).collect());
        }
        assert_eq!(taken, [vec![4_000, 90], vec![7, 5], vec![9_999], vec![1]]);
        assert_eq!(queue.state.weight.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_behind_too_much_is_told_at_once() {
        let (queue, mut receiver) = of(64);
        let submit = |number, seconds| {
            let (queue, deadline) = (queue.clone(), Instant::now() + Duration::from_secs(seconds));
            tokio::spawn(async move { queue.submit(number, deadline).await })
        };
        submit(1, 60);
        drop(receiver.recv_batch().await.unwrap());
        tokio::time::sleep(Duration::from_secs(8)).await;
        // One turn took eight seconds, so they think one second; there are three before the last.
        for _ in 0..3 {
            submit(4_000, 60);
        }
        assert_eq!(receiver.recv_batch().await.unwrap().len(), 1);
        tokio::task::yield_now().await;
        assert!(matches!(submit(1, 1).await.unwrap(), Err(Error::Overloaded { .. })));
        assert!(!submit(1, 60).is_finished());
    }

    #[tokio::test]
    async fn who_is_alone_does_not_look_round() {
        let (queue, mut receiver) = of(64);
        for number in 0..MAX_SINGLES {
            let queue = queue.clone();
            let deadline = Instant::now() + Duration::from_secs(60);
            tokio::spawn(async move { queue.submit(number, deadline).await });
            assert_eq!(receiver.recv_batch().await.unwrap().len(), 1);
        }
        assert_eq!(takes(&queue, &mut receiver).await, [0]);
    }
}
