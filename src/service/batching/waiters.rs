//! Commands that wait for one statement, each until its own deadline.
//!
//! A statement needs a connection, and deadlines may pass while the connection is opened. Expired
//! commands are answered then, and the others keep waiting: a short deadline does not shorten the
//! wait of other commands. A statement that fails, fails for all its commands. Bisection separates
//! the command that caused the failure from the others.

use std::pin::pin;

use tokio::time::{Instant, timeout_at};

use crate::metrics::StatementStats;
use crate::repository::connections::dedicated_connection::DedicatedConnection;
use crate::repository::{self, ServerConnection};
use crate::service::Error;

/// Commands that wait for the same statement.
pub(super) trait Waiters {
    /// The deadline of each command.
    fn deadlines(&self) -> impl Iterator<Item = Instant>;

    /// Answers the commands whose deadline has passed at `now` with `error`, and removes them.
    /// Commands whose caller is gone are removed too. Returns the number of answered commands.
    fn expire(&mut self, now: Instant, error: impl Fn() -> Error) -> usize;

    /// Whether the batch has more than one command.
    fn is_splittable(&self) -> bool;

    /// Removes and returns the second half of the commands. The batch must have more than one.
    fn split_half(&mut self) -> Self;
}

/// A batch that is executed whole, or in parts if one of its commands makes it fail. Each failure
/// cuts a part in halves, so that few commands are executed alone.
pub(super) struct Bisection<T> {
    /// The parts that remain. The last part is executed next.
    remaining: Vec<T>,
    /// The error for commands that expire after a failure. `None` before the first failure.
    timeout_error: Option<Error>,
}

impl<T: Waiters> Bisection<T> {
    /// Starts with the whole batch.
    pub(super) fn new(batch: T) -> Self {
        Self { remaining: vec![batch], timeout_error: None }
    }

    /// The part to execute next. After a failure, expired commands are answered first, so the part
    /// may be empty.
    pub(super) fn next_batch(&mut self, metrics: &StatementStats) -> Option<T> {
        if let Some(timeout_error) = &self.timeout_error {
            let now = Instant::now();
            for batch in &mut self.remaining {
                metrics.rejected.add(batch.expire(now, || timeout_error.clone()) as u64);
            }
        }
        self.remaining.pop()
    }

    /// Schedules a part to be executed again next. Nothing was done for its commands so far.
    pub(super) fn retry(&mut self, batch: T) {
        self.timeout_error = Some(Error::queue_timeout());
        self.remaining.push(batch);
    }

    /// Schedules the halves of a part next. Nothing was done for its commands so far.
    pub(super) fn bisect(&mut self, mut batch: T, error: repository::Error) {
        self.timeout_error = Some(match error {
            repository::Error::TimedOut(_) => error.into(),
            _ => Error::queue_timeout(),
        });
        let second = batch.split_half();
        self.remaining.extend([second, batch]);
    }
}

/// A connection for `waiters`; `None` if all of them expire first.
///
/// # Errors
/// [`repository::Error::Unavailable`] if no connection can be opened. Nothing was done.
pub(super) async fn acquire_for(
    dedicated: &mut DedicatedConnection,
    waiters: &mut impl Waiters,
    metrics: &StatementStats,
) -> Result<Option<ServerConnection>, repository::Error> {
    expire(waiters, Instant::now(), metrics);
    let Some(last) = waiters.deadlines().max() else { return Ok(None) };
    match dedicated.try_acquire() {
        Some(connection) => Ok(Some(connection)),
        // Boxed: the future is large and seldom needed.
        None => {
            let opening = await_for(dedicated.ensure_open(last), waiters, metrics);
            let mut opened = Box::pin(opening).await?;
            if let Some(connection) = &mut opened {
                connection.begin_statement();
            }
            Ok(opened)
        }
    }
}

/// Waits for `opening` until it completes or all waiters have expired.
async fn await_for<T>(
    opening: impl Future<Output = Result<T, repository::Error>>,
    waiters: &mut impl Waiters,
    metrics: &StatementStats,
) -> Result<Option<T>, repository::Error> {
    let mut opening = pin!(opening);
    loop {
        let Some(first) = waiters.deadlines().min() else { return Ok(None) };
        match timeout_at(first, &mut opening).await {
            Ok(opened) => {
                let opened = opened?;
                expire(waiters, Instant::now(), metrics);
                return Ok(waiters.deadlines().next().map(|_| opened));
            }
            Err(_) => expire(waiters, Instant::now(), metrics),
        }
    }
}

fn expire(waiters: &mut impl Waiters, now: Instant, metrics: &StatementStats) {
    metrics.rejected.add(waiters.expire(now, Error::queue_timeout) as u64);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::Buin;
    use crate::service::batching::queue::{PendingCommand, batch_channel};

    const SECOND: Duration = Duration::from_secs(1);

    /// Three commands wait for one, two and three seconds, while the connection opens after
    /// `open_time`. Returns the commands that got the connection, and the time at which each other
    /// command was answered.
    async fn wait_for_connection(open_time: Duration) -> (Vec<u32>, [Option<Duration>; 3]) {
        let buin = Buin::new(1).unwrap();
        let started_at = Instant::now();
        let (queue, mut receiver) =
            batch_channel(3, 3, Duration::from_secs(60), &std::sync::Arc::default());
        let tasks = [1, 2, 3].map(|number| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let answer: Result<(), _> =
                    queue.submit(number, buin, started_at + number * SECOND).await;
                answer.is_err().then(|| started_at.elapsed())
            })
        });
        let mut batch: Vec<PendingCommand<u32, ()>> = receiver.recv_batch().await.unwrap();
        let opened = async {
            tokio::time::sleep(open_time).await;
            Ok(())
        };
        let metrics = StatementStats::default();
        let acquired = await_for(opened, &mut batch, &metrics).await.unwrap();
        assert_eq!(acquired.is_none(), batch.is_empty());
        assert_eq!(metrics.rejected.value(), 3 - batch.len() as u64);
        let remaining = batch.iter().map(|pending| pending.command).collect();
        for pending in batch {
            pending.reply.send(Ok(()));
        }
        let [first, second, third] = tasks;
        (remaining, [first.await.unwrap(), second.await.unwrap(), third.await.unwrap()])
    }

    #[tokio::test(start_paused = true)]
    async fn each_command_waits_until_its_own_deadline() {
        let at = |seconds: u32| Some(seconds * SECOND);
        let (remaining, expired_at) = wait_for_connection(SECOND / 2).await;
        assert_eq!((remaining.as_slice(), expired_at), ([1, 2, 3].as_slice(), [None; 3]));
        let (remaining, expired_at) = wait_for_connection(SECOND * 5 / 2).await;
        assert_eq!((remaining.as_slice(), expired_at), ([3].as_slice(), [at(1), at(2), None]));
        let (remaining, expired_at) = wait_for_connection(SECOND * 4).await;
        assert_eq!((remaining.as_slice(), expired_at), ([].as_slice(), [at(1), at(2), at(3)]));
    }
}
