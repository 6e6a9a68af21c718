//! The queues of a server thread: one each for reads, creates and updates.
//!
//! Each queue has its own batcher and connection. A request and its batcher run on the same thread,
//! so that neither has to wake another thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::batcher::run;
use super::commands::{CreateSender, ReadSender, UpdateSender};
use super::context::Context;
use super::create_batcher::CreateExecutor;
use super::queue::batch_channel;
use super::read_batcher::ReadExecutor;
use super::update_batcher::UpdateExecutor;

/// The number of threads beside the first that have their own queues. Other threads share the
/// queues of the first.
const MAX_THREADS: usize = 8;

/// The queues of one thread. A clone uses the same queues.
#[derive(Clone)]
pub(in crate::service) struct BatchQueues {
    pub(in crate::service) reads: ReadSender,
    pub(in crate::service) creates: CreateSender,
    pub(in crate::service) updates: UpdateSender,
}

impl BatchQueues {
    /// Spawns three batchers on the current runtime.
    pub(in crate::service) fn spawn(context: &Arc<Context>) -> Self {
        let (max_queued, max_batch) = (context.max_queued, context.max_batch);
        let cutoff = context.limits.statement_timeout;
        let metrics = &context.metrics;
        let (reads, receiver) = batch_channel(max_queued, max_batch, cutoff, &metrics.reads);
        tokio::spawn(run(ReadExecutor::new(context), receiver));
        let (creates, receiver) = batch_channel(max_queued, max_batch, cutoff, &metrics.creates);
        tokio::spawn(run(CreateExecutor::new(context), receiver));
        let (updates, receiver) = batch_channel(max_queued, max_batch, cutoff, &metrics.updates);
        tokio::spawn(run(UpdateExecutor::new(context), receiver));
        Self { reads, creates, updates }
    }

    /// The queues for another thread: new ones up to a limit, then these.
    pub(in crate::service) fn for_thread(&self, context: &Arc<Context>) -> Self {
        if context.threads.fetch_add(1, Ordering::Relaxed) >= MAX_THREADS {
            return self.clone();
        }
        Self::spawn(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn number_of_threads_with_queues_of_their_own_is_bounded() {
        let context = Context::for_tests();
        let first = BatchQueues::spawn(&context);
        let own = (0..3 * MAX_THREADS).filter(|_| {
            let queues = first.for_thread(&context);
            let is_shared = queues.reads.same_channel(&first.reads);
            assert_eq!(queues.creates.same_channel(&first.creates), is_shared);
            assert_eq!(queues.updates.same_channel(&first.updates), is_shared);
            !is_shared
        });
        assert_eq!(own.count(), MAX_THREADS);
    }
}
