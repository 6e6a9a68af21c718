//! Lets large requests take turns on a thread, so that small ones are served between them.
//!
//! A thread serves many requests, and one that parses or writes a megabyte keeps it for milliseconds.
//! Many of them are often ready at the same moment. Without turns they would keep the thread one after
//! the other, and a small request of another enterprise would wait for all of them: the thread looks at
//! its sockets only between two rounds of ready tasks.

use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The size of a request or a result that needs a turn, in bytes.
const MIN_LARGE_BYTES: usize = 32 * 1024;

/// The turns of one thread. Clones share them.
#[derive(Clone, Debug)]
pub struct WorkTurns {
    permits: Arc<Semaphore>,
    /// The number of turns so far.
    #[cfg(test)]
    taken: Arc<AtomicUsize>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct WorkTurn {
    _permit: OwnedSemaphorePermit,
}

impl WorkTurns {
    /// The turns of a thread.
    pub(crate) fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(1)),
            #[cfg(test)]
            taken: Arc::default(),
        }
    }

    /// Takes a turn for the work on this many bytes, which lasts until the result is dropped. The thread
    /// reads its sockets before the turn begins. `None`: little work needs no turn.
    pub async fn take(&self, bytes: usize) -> Option<WorkTurn> {
        if bytes < MIN_LARGE_BYTES {
            return None;
        }
        // The semaphore is never closed. Only one waits for its turn in each round of the thread.
        let permit = self.permits.clone().acquire_owned().await.ok()?;
        #[cfg(test)]
        self.taken.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        Some(WorkTurn { _permit: permit })
    }

    /// Waits for the turn of the work on this many bytes: the thread looks at its sockets first, and does
    /// no other large work in the same round. The caller does the work before it awaits anything else.
    /// Little work needs no turn.
    pub async fn wait(&self, bytes: usize) {
        drop(self.take(bytes).await);
    }

    /// The number of turns so far.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::task::{LocalSet, yield_now};

    use super::*;

    /// The order in which ten large requests and a small one, which has several steps, are served on
    /// one thread.
    async fn order(size: usize) -> Vec<&'static str> {
        let (turns, order) = (WorkTurns::new(), Rc::new(RefCell::new(Vec::new())));
        let local = LocalSet::new();
        for _ in 0..10 {
            let (turns, order) = (turns.clone(), order.clone());
            local.spawn_local(async move {
                turns.wait(size).await;
                order.borrow_mut().push("large");
            });
        }
        let small = order.clone();
        local.spawn_local(async move {
            for _ in 0..30 {
                small.borrow_mut().push("small");
                yield_now().await;
            }
        });
        local.await;
        order.take()
    }

    #[tokio::test]
    async fn small_requests_are_served_between_large_ones() {
        let order = order(MIN_LARGE_BYTES).await;
        assert_eq!(order.iter().filter(|kind| **kind == "large").count(), 10);
        // Each round has one: last in one round and first in the next one, at most.
        assert!(!order.windows(3).any(|three| three == ["large"; 3]), "{order:?}");
    }

    #[tokio::test]
    async fn little_work_does_not_wait() {
        assert_eq!(order(MIN_LARGE_BYTES - 1).await[..10], ["large"; 10]);
    }
}
