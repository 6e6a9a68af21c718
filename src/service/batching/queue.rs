//! A queue whose receiver takes all queued commands at once and answers each.
//!
//! A command that would wait past its deadline is refused when it is submitted. Otherwise the
//! queue of an overloaded server would fill with commands whose callers have given up.
//!
//! Each enterprise may have [`batch_channel`]'s `max_queued` commands in the queue. If more commands
//! wait than one batch takes, the enterprises take turns ([`super::turns`]), and the estimate counts
//! only the commands that have their turn earlier.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::queue_state::{MAX_BATCH_WEIGHT, QueueState};
use super::turns::Turns;
use super::waiters::Waiters;
use crate::domain::Buin;
use crate::metrics::StatementStats;
use crate::service::Error;
use crate::telemetry::Trace;

/// The number of batches with one command in a row after which the receiver no longer yields for
/// more commands.
const MAX_SINGLES: u32 = 3;

/// A command that can be batched.
pub(in crate::service) trait BatchItem {
    /// The estimated number of rows that the command writes; 1 if unknown.
    fn weight(&self) -> usize;
}

/// Submits commands. A clone uses the same queue.
pub(in crate::service) struct BatchSender<C, O> {
    sender: mpsc::Sender<PendingCommand<C, O>>,
    state: Arc<QueueState>,
}

/// Receives commands in batches.
pub(super) struct BatchReceiver<C, O> {
    receiver: mpsc::Receiver<PendingCommand<C, O>>,
    state: Arc<QueueState>,
    /// A received command that was too large for the last batch.
    carried_over: Option<PendingCommand<C, O>>,
    /// Further received commands. Empty unless more commands waited than a batch takes.
    turns: Turns<PendingCommand<C, O>>,
    /// The number of batches with one command received in a row.
    consecutive_singles: u32,
}

/// A command whose caller waits for the outcome.
pub(super) struct PendingCommand<C, O> {
    pub(super) command: C,
    /// The enterprise of the caller.
    pub(super) buin: Buin,
    /// The time before which the command must start.
    pub(super) deadline: Instant,
    /// The trace of the request.
    pub(super) trace: Option<Trace>,
    pub(super) reply: ReplySender<O>,
}

/// Sends the outcome to the caller.
pub(super) struct ReplySender<O>(oneshot::Sender<Result<O, Error>>);

/// A queue of up to `max_queued` commands of each enterprise, and of four times as many of all. They
/// are received in batches of up to `max_batch`. A batch is cut off after `cutoff`. `metrics` counts queued
/// and refused commands.
pub(super) fn batch_channel<C, O>(
    max_queued: usize,
    max_batch: usize,
    cutoff: Duration,
    metrics: &Arc<StatementStats>,
) -> (BatchSender<C, O>, BatchReceiver<C, O>) {
    let state = Arc::new(QueueState::new(max_queued, max_batch, cutoff, metrics.clone()));
    let (sender, receiver) = mpsc::channel(state.max_total().min(Semaphore::MAX_PERMITS));
    (
        BatchSender { sender, state: state.clone() },
        BatchReceiver {
            receiver,
            state,
            carried_over: None,
            turns: Turns::new(),
            consecutive_singles: 0,
        },
    )
}

impl<O> ReplySender<O> {
    /// Sends the outcome. The caller may have gone.
    pub(super) fn send(self, answer: Result<O, Error>) {
        let _ = self.0.send(answer);
    }
}

impl<C, O> Waiters for Vec<PendingCommand<C, O>> {
    fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.iter().map(|pending| pending.deadline)
    }

    fn expire(&mut self, now: Instant, error: impl Fn() -> Error) -> usize {
        self.retain(|pending| !pending.reply.0.is_closed());
        let expired = self.extract_if(.., |pending| pending.deadline <= now);
        expired.map(|pending| pending.reply.send(Err(error()))).count()
    }

    fn is_splittable(&self) -> bool {
        self.len() > 1
    }

    fn split_half(&mut self) -> Self {
        self.split_off(self.len() / 2)
    }
}

impl<C: BatchItem, O> BatchSender<C, O> {
    /// Queues a command of an enterprise and waits for its outcome. The command does not start after
    /// `deadline`. Dropping the future cancels a command that has not started.
    ///
    /// # Errors
    /// [`Error::Overloaded`] at once if the enterprise has too many queued commands or the estimated
    /// wait exceeds the deadline; [`Error::Unavailable`] if the deadline passes. Nothing was done in both
    /// cases. Otherwise the error of the statement.
    pub(in crate::service) async fn submit(
        &self,
        command: C,
        buin: Buin,
        deadline: Instant,
    ) -> Result<O, Error> {
        let now = Instant::now();
        if deadline <= now {
            return Err(Error::queue_timeout());
        }
        let state = &self.state;
        let wait = state.estimated_wait(buin, now);
        if now + wait > deadline || state.is_full(buin) {
            state.metrics.rejected.inc();
            return Err(Error::Overloaded { wait });
        }
        let weight = command.weight();
        let (reply, answer) = oneshot::channel();
        let trace = Trace::current();
        let pending = PendingCommand { command, buin, deadline, trace, reply: ReplySender(reply) };
        state.on_enqueue(buin, weight);
        if let Err(error) = self.sender.try_send(pending) {
            state.on_dequeue(std::iter::once(buin), weight);
            return Err(match error {
                mpsc::error::TrySendError::Full(_) => {
                    state.metrics.rejected.inc();
                    Error::Overloaded { wait }
                }
                mpsc::error::TrySendError::Closed(_) => Error::queue_timeout(),
            });
        }
        // The receiver answers every command, unless it was dropped because the server stops.
        answer.await.unwrap_or_else(|_| Err(Error::queue_timeout()))
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

impl<C: BatchItem, O> BatchReceiver<C, O> {
    /// Waits for the next command, and returns it with all queued commands. Expired commands are
    /// answered with an error and left out, so the batch may be empty. Returns `None` when every
    /// sender is dropped.
    ///
    /// The call also ends the previous batch: its duration is a sample for the estimates.
    pub(super) async fn recv_batch(&mut self) -> Option<Vec<PendingCommand<C, O>>> {
        let now = Instant::now();
        if let Some(elapsed) = self.state.estimator.elapsed(now) {
            self.state.estimator.record(now, elapsed, false);
        }
        let first = match self.carried_over.take().or_else(|| self.turns.pop()) {
            Some(first) => first,
            None => self.receiver.recv().await?,
        };
        let mut weight = first.command.weight();
        let mut batch = Vec::with_capacity(self.state.max_batch);
        batch.push(first);
        self.drain_into(&mut batch, &mut weight);
        // Clients that are answered together send their next requests together, and the first of
        // these requests wakes the receiver. So the receiver yields while this thread queues more
        // requests. It does not yield if the last batches had one command each, or if the batch
        // tests whether the database answers again.
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
        self.state.on_dequeue(batch.iter().map(|pending| pending.buin), weight);
        let now = Instant::now();
        self.state.metrics.rejected.add(batch.expire(now, Error::queue_timeout) as u64);
        // An empty batch is not executed, so its duration is no sample.
        if !batch.is_empty() {
            self.state.estimator.start(now);
        }
        Some(batch)
    }

    /// Whether the batch can take more commands.
    fn has_room(&self, batch: &[PendingCommand<C, O>]) -> bool {
        self.carried_over.is_none() && batch.len() < self.state.max_batch
    }

    /// Adds queued commands to the batch while it has room. Returns whether it added any.
    fn drain_into(&mut self, batch: &mut Vec<PendingCommand<C, O>>, weight: &mut usize) -> bool {
        let before = batch.len();
        let room = self.state.max_batch.saturating_sub(before);
        if !self.turns.is_empty() || self.receiver.len() > room {
            while let Ok(pending) = self.receiver.try_recv() {
                self.turns.push(pending.buin, pending);
            }
        }
        while self.has_room(batch)
            && let Some(pending) = self.turns.pop().or_else(|| self.receiver.try_recv().ok())
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

/// The traces of some commands.
pub(super) fn traces<'a, C: 'a, O: 'a>(
    batch: impl IntoIterator<Item = &'a PendingCommand<C, O>>,
) -> Vec<Trace> {
    batch.into_iter().filter_map(|pending| pending.trace.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::batching::queue_state::MAX_FULL_SHARES;

    impl BatchItem for u32 {
        fn weight(&self) -> usize {
            *self as usize
        }
    }

    fn buin(number: i64) -> Buin {
        Buin::new(number).unwrap()
    }

    /// Submits five commands, each one yield of the thread after the previous one. Returns the
    /// first batch.
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
                queue.submit(number, buin(1), deadline).await
            });
        }
        let batch = receiver.recv_batch().await.unwrap();
        batch.into_iter().map(|pending| pending.command).collect()
    }

    fn new(max_batch: usize) -> (BatchSender<u32, ()>, BatchReceiver<u32, ()>) {
        batch_channel(64, max_batch, Duration::from_secs(60), &Arc::default())
    }

    #[tokio::test]
    async fn commands_of_the_same_moment_share_a_batch() {
        let (queue, mut receiver) = new(64);
        assert_eq!(takes(&queue, &mut receiver).await, [0, 1, 2, 3, 4]);
        let (queue, mut receiver) = new(3);
        assert_eq!(takes(&queue, &mut receiver).await, [0, 1, 2]);
    }

    #[tokio::test]
    async fn large_commands_share_a_batch_with_few_others() {
        let (queue, mut receiver) = new(64);
        let deadline = Instant::now() + Duration::from_secs(60);
        for number in [4_000, 90, 7, 5, 9_999, 1] {
            let queue = queue.clone();
            tokio::spawn(async move { queue.submit(number, buin(1), deadline).await });
        }
        let mut batches = Vec::new();
        while batches.iter().map(Vec::len).sum::<usize>() < 6 {
            let batch = receiver.recv_batch().await.unwrap();
            batches.push(batch.into_iter().map(|pending| pending.command).collect());
        }
        assert_eq!(batches, [vec![4_000, 90], vec![7, 5], vec![9_999], vec![1]]);
        assert_eq!(queue.state.weight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn command_that_would_wait_too_long_is_refused_at_once() {
        let (queue, mut receiver) = new(64);
        let submit = |number, seconds| {
            let (queue, deadline) = (queue.clone(), Instant::now() + Duration::from_secs(seconds));
            tokio::spawn(async move { queue.submit(number, buin(1), deadline).await })
        };
        submit(1, 60);
        drop(receiver.recv_batch().await.unwrap());
        tokio::time::sleep(Duration::from_secs(8)).await;
        // One batch took eight seconds, of which an eighth counts. Three more batches are queued.
        for _ in 0..3 {
            submit(4_000, 60);
        }
        assert_eq!(receiver.recv_batch().await.unwrap().len(), 1);
        tokio::task::yield_now().await;
        assert!(matches!(submit(1, 1).await.unwrap(), Err(Error::Overloaded { .. })));
        assert!(!submit(1, 60).is_finished());
    }

    #[tokio::test]
    async fn single_commands_in_a_row_are_received_without_yielding() {
        let (queue, mut receiver) = new(64);
        for number in 0..MAX_SINGLES {
            let queue = queue.clone();
            let deadline = Instant::now() + Duration::from_secs(60);
            tokio::spawn(async move { queue.submit(number, buin(1), deadline).await });
            assert_eq!(receiver.recv_batch().await.unwrap().len(), 1);
        }
        assert_eq!(takes(&queue, &mut receiver).await, [0]);
    }

    #[tokio::test]
    async fn number_of_full_parts_of_a_queue_is_bounded() {
        const MAX_QUEUED: usize = 2;
        const MAX: usize = MAX_QUEUED * MAX_FULL_SHARES;
        let (queue, mut receiver): (BatchSender<u32, ()>, _) =
            batch_channel(MAX_QUEUED, 64, Duration::from_secs(60), &Arc::default());
        let deadline = Instant::now() + Duration::from_secs(60);
        // Each enterprise fills its part, and two of them find no room.
        let submitted = (1..=6).flat_map(|of| [of; MAX_QUEUED]).map(|of| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.submit(0, buin(of), deadline).await })
        });
        let submitted: Vec<_> = submitted.collect();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let refused = submitted.iter().filter(|command| command.is_finished()).count();
        assert_eq!(refused, submitted.len() - MAX);
        assert_eq!(receiver.recv_batch().await.unwrap().len(), MAX);
    }

    #[tokio::test]
    async fn an_enterprise_that_fills_its_part_of_the_queue_delays_no_other() {
        const MAX_QUEUED: usize = 40;
        let (queue, mut receiver): (BatchSender<u32, ()>, _) =
            batch_channel(MAX_QUEUED, 8, Duration::from_secs(60), &Arc::default());
        let deadline = Instant::now() + Duration::from_secs(60);
        let submit = |number: u32, of: i64| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.submit(number, buin(of), deadline).await })
        };
        let flood: Vec<_> = (0..60).map(|_| submit(1, 1)).collect();
        let others = [submit(2, 2), submit(2, 2), submit(3, 3)];
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let refused = flood.iter().filter(|command| command.is_finished()).count();
        assert_eq!(refused, 60 - MAX_QUEUED);
        assert!(others.iter().all(|command| !command.is_finished()));
        let batch = receiver.recv_batch().await.unwrap();
        let numbers: Vec<_> = batch.iter().map(|pending| pending.command).collect();
        assert_eq!(numbers, [1, 1, 2, 3, 1, 2, 1, 1]);
        // All are received, and none is lost.
        let mut received = batch.len();
        while received < MAX_QUEUED + 3 {
            received += receiver.recv_batch().await.unwrap().len();
        }
        assert_eq!((queue.state.total(), queue.state.weight()), (0, 0));
    }
}
