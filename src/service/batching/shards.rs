//! Lanes to the database: on each thread that serves, one task each for reads, creates and changes,
//! with a connection of its own.
//!
//! What runs on one thread need not wake another.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commands::{CreateSender, ReadSender, UpdateSender};
use super::context::Shared;
use super::queue::queue;
use super::{create_batcher, read_batcher, update_batcher};

/// How many threads have a lane of their own; the others use that of the first.
const LANES: usize = 8;

/// The queues of a lane.
#[derive(Clone)]
pub(in crate::service) struct Lane {
    pub(in crate::service) reads: ReadSender,
    pub(in crate::service) creates: CreateSender,
    pub(in crate::service) updates: UpdateSender,
}

impl Lane {
    /// Spawns the tasks of a lane on the runtime of whoever calls this.
    pub(in crate::service) fn open(shared: &Arc<Shared>) -> Self {
        let (longest, most) = (shared.max_waiting, shared.most);
        let patience = shared.limits.statement_timeout;
        let metrics = &shared.metrics;
        let (reads, wanted) = queue(longest, most, patience, &metrics.reads);
        tokio::spawn(read_batcher::run(shared.clone(), wanted));
        let (creates, wanted) = queue(longest, most, patience, &metrics.creates);
        tokio::spawn(create_batcher::run(shared.clone(), wanted));
        let (updates, wanted) = queue(longest, most, patience, &metrics.updates);
        tokio::spawn(update_batcher::run(shared.clone(), wanted));
        Self { reads, creates, updates }
    }

    /// The same for another thread: a lane of its own, while there are few.
    pub(in crate::service) fn another(&self, shared: &Arc<Shared>) -> Self {
        if shared.opened.fetch_add(1, Ordering::Relaxed) >= LANES {
            return self.clone();
        }
        Self::open(shared)
    }
}
