//! The loop that all batchers run: receive, group, execute, then reply, retry or bisect.

use super::context::Context;
use super::queue::{BatchItem, BatchReceiver, Pending};
use super::waiters::{Bisection, Waiters};
use crate::metrics::Statements;
use crate::repository;

/// Executes one kind of command. The loop is compiled once for each executor.
pub(super) trait Executor {
    type Command: BatchItem;
    type Outcome;
    /// The commands that share a statement.
    type Batch: Waiters;
    /// The result of a statement that succeeded.
    type Done;

    /// How often a received batch is executed again because PostgreSQL chose its statement as the
    /// victim of a deadlock.
    const MAX_DEADLOCK_RETRIES: u32;

    /// What all batchers share.
    fn context(&self) -> &Context;

    /// The metrics of the statements of this executor.
    fn statements(context: &Context) -> &Statements;

    /// Groups commands that were received together.
    fn group(&mut self, commands: Vec<Pending<Self::Command, Self::Outcome>>) -> Self::Batch;

    /// Executes a statement for a batch. The batch may shrink: commands whose deadline passes while
    /// the executor waits for a connection are answered and removed. The batch may be empty from
    /// the beginning.
    ///
    /// # Errors
    /// When the statement fails. Nothing was done for any command of the batch then, unless the
    /// error says that its outcome is unknown.
    fn execute(
        &mut self,
        batch: &mut Self::Batch,
        attempt: Attempt,
    ) -> impl Future<Output = Result<Self::Done, repository::Error>> + Send;

    /// Answers the commands of a batch. Returns those that must be executed again.
    fn reply(
        &mut self,
        batch: Self::Batch,
        result: Result<Self::Done, repository::Error>,
        attempt: Attempt,
    ) -> Option<Self::Batch>;
}

/// Which execution of a received batch this is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    First,
    /// A later one, of the whole batch or of a part of it.
    Retry,
}

/// Executes commands until every sender is gone.
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
                // One command may have caused the error. The others must not fail with it.
                Err(error) if error.may_be_of_one() && batch.is_splittable() => {
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
