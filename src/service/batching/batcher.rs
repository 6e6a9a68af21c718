//! The loop that all batchers run: receive, group, execute, then reply, retry or bisect.

use super::context::Context;
use super::queue::{BatchItem, BatchReceiver, PendingCommand};
use super::waiters::{Bisection, Waiters};
use crate::metrics::StatementStats;
use crate::repository;

/// Executes one kind of command. The loop is compiled once for each executor.
pub(super) trait Executor {
    type Command: BatchItem;
    type Outcome;
    /// The commands that share a statement.
    type Batch: Waiters;
    /// The result of a statement that succeeded.
    type Done;

    /// The number of times that a received batch is executed again because PostgreSQL chose its
    /// statement as the victim of a deadlock.
    const MAX_DEADLOCK_RETRIES: u32;

    /// The state that all batchers share.
    fn context(&self) -> &Context;

    /// The metrics of the statements of this executor.
    fn statements(context: &Context) -> &StatementStats;

    /// Groups commands that were received together.
    fn group(&mut self, commands: Vec<PendingCommand<Self::Command, Self::Outcome>>)
    -> Self::Batch;

    /// Executes a statement for a batch. While the executor waits for a connection, commands whose
    /// deadline passes are answered and removed. The batch may be empty from the beginning.
    ///
    /// # Errors
    /// The statement fails. No command of the batch has an effect then, unless the error says that
    /// the outcome is unknown.
    fn execute(
        &mut self,
        batch: &mut Self::Batch,
        attempt: Attempt,
    ) -> impl Future<Output = Result<Self::Done, repository::Error>> + Send;

    /// Answers the commands of a batch. Returns the commands that must be executed again.
    fn reply(
        &mut self,
        batch: Self::Batch,
        result: Result<Self::Done, repository::Error>,
        attempt: Attempt,
    ) -> Option<Self::Batch>;
}

/// Distinguishes the first execution of a received batch from later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    First,
    /// A later execution of the whole batch or a part of it.
    Retry,
}

/// Executes commands until every sender is dropped.
pub(super) async fn run<E: Executor>(
    mut executor: E,
    mut receiver: BatchReceiver<E::Command, E::Outcome>,
) {
    while let Some(commands) = receiver.recv_batch().await {
        let mut parts = Bisection::new(executor.group(commands));
        let mut attempt = Attempt::First;
        let mut deadlock_retries = E::MAX_DEADLOCK_RETRIES;
        while let Some(mut batch) = parts.next_batch(E::statements(executor.context())) {
            match executor.execute(&mut batch, attempt).await {
                Err(error) if error.is_deadlock() && deadlock_retries > 0 => {
                    executor.context().metrics.deadlocks.inc();
                    deadlock_retries -= 1;
                    parts.retry(batch);
                }
                // One command may have caused the error. The other commands must not fail with it.
                Err(error) if error.may_be_item_specific() && batch.is_splittable() => {
                    parts.bisect(batch, error);
                }
                result => {
                    if let Some(unfinished) = executor.reply(batch, result, attempt) {
                        parts.retry(unfinished);
                    }
                }
            }
            attempt = Attempt::Retry;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::domain::Buin;
    use crate::service::batching::queue::batch_channel;

    const SECOND: Duration = Duration::from_secs(1);

    type Executions = Arc<Mutex<Vec<(Attempt, Vec<u32>)>>>;

    /// Records the batches that it executes. A batch with the number 5 fails. A batch with the
    /// number 9 must be executed twice.
    struct Recorder {
        context: Arc<Context>,
        executions: Executions,
    }

    impl Executor for Recorder {
        type Command = u32;
        type Outcome = ();
        type Batch = Vec<PendingCommand<u32, ()>>;
        type Done = ();

        const MAX_DEADLOCK_RETRIES: u32 = 0;

        fn context(&self) -> &Context {
            &self.context
        }

        fn statements(context: &Context) -> &StatementStats {
            &context.metrics.reads
        }

        fn group(&mut self, commands: Vec<PendingCommand<u32, ()>>) -> Self::Batch {
            commands
        }

        async fn execute(
            &mut self,
            batch: &mut Self::Batch,
            attempt: Attempt,
        ) -> Result<(), repository::Error> {
            let numbers: Vec<u32> = batch.iter().map(|pending| pending.command).collect();
            let fails = numbers.contains(&5);
            self.executions.lock().unwrap().push((attempt, numbers));
            if fails { Err(repository::Error::DuplicateIdempotencyKey) } else { Ok(()) }
        }

        fn reply(
            &mut self,
            batch: Self::Batch,
            result: Result<(), repository::Error>,
            attempt: Attempt,
        ) -> Option<Self::Batch> {
            if attempt == Attempt::First && batch.iter().any(|pending| pending.command == 9) {
                return Some(batch);
            }
            let failed = result.is_err();
            for pending in batch {
                let error = || repository::Error::DuplicateIdempotencyKey.into();
                pending.reply.send(if failed { Err(error()) } else { Ok(()) });
            }
            None
        }
    }

    /// Submits `numbers` together. Returns the numbers that failed, and all executions.
    async fn execute(numbers: impl Iterator<Item = u32>) -> (Vec<u32>, Vec<(Attempt, Vec<u32>)>) {
        let context = Context::for_tests();
        let executions = Executions::default();
        let (sender, receiver) = batch_channel(64, 64, 60 * SECOND, &Arc::default());
        let deadline = Instant::now() + 60 * SECOND;
        let buin = Buin::new(1).unwrap();
        let submitted: Vec<_> = numbers
            .map(|number| {
                let sender = sender.clone();
                let outcome = async move { sender.submit(number, buin, deadline).await };
                (number, tokio::spawn(outcome))
            })
            .collect();
        tokio::spawn(run(Recorder { context, executions: executions.clone() }, receiver));
        let mut failed = Vec::new();
        for (number, outcome) in submitted {
            if outcome.await.unwrap().is_err() {
                failed.push(number);
            }
        }
        let executions = executions.lock().unwrap().clone();
        (failed, executions)
    }

    #[tokio::test]
    async fn failing_command_is_separated_from_the_others() {
        let (failed, executions) = execute(1..=8).await;
        assert_eq!(failed, [5]);
        let (attempts, executed): (Vec<_>, Vec<_>) = executions.into_iter().unzip();
        assert_eq!(attempts[0], Attempt::First);
        assert!(attempts[1..].iter().all(|attempt| *attempt == Attempt::Retry));
        let expected: [&[u32]; 7] =
            [&[1, 2, 3, 4, 5, 6, 7, 8], &[1, 2, 3, 4], &[5, 6, 7, 8], &[5, 6], &[5], &[6], &[7, 8]];
        assert_eq!(executed, expected);
    }

    #[tokio::test]
    async fn unfinished_commands_are_executed_again() {
        let (failed, executions) = execute(9..=10).await;
        assert!(failed.is_empty());
        assert_eq!(executions, [(Attempt::First, vec![9, 10]), (Attempt::Retry, vec![9, 10])]);
    }
}
