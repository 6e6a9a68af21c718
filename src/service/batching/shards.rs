//! Lanes to the database: on each thread that serves, one task each for reads, creates and changes,
//! with a connection of its own.
//!
//! What runs on one thread need not wake another.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::batcher::run;
use super::commands::{CreateSender, ReadSender, UpdateSender};
use super::context::Context;
use super::create_batcher::CreateExecutor;
use super::queue::batch_channel;
use super::read_batcher::ReadExecutor;
use super::update_batcher::UpdateExecutor;

/// How many threads have a lane of their own; the others use that of the first.
const MAX_THREADS: usize = 8;

/// The queues of a lane.
#[derive(Clone)]
pub(in crate::service) struct BatchQueues {
    pub(in crate::service) reads: ReadSender,
    pub(in crate::service) creates: CreateSender,
    pub(in crate::service) updates: UpdateSender,
}

impl BatchQueues {
    /// Spawns the tasks of a lane on the runtime of whoever calls this.
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

    /// The same for another thread: a lane of its own, while there are few.
    pub(in crate::service) fn for_thread(&self, context: &Arc<Context>) -> Self {
        if context.threads.fetch_add(1, Ordering::Relaxed) >= MAX_THREADS {
            return self.clone();
        }
        Self::spawn(context)
    }
}
