//! Lanes to the database: on each thread that serves, one task each for reads, creates and changes,
//! with a connection of its own.
//!
//! What runs on one thread need not wake another. The surprise are the places: changes of one
//! session must be decided in one lane at a time, or each would find its version gone. While some
//! of a session are under way, more of them go where those went, whatever thread they come from.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::queue::queue;
use super::sessions::Shared;
use super::{creates, reads, updates};
use crate::domain::SessionId;

/// How many threads have a lane of their own; the others use that of the first.
const LANES: usize = 8;
/// More than there are changes under way, so that two sessions seldom share a place.
const PLACES: usize = 1_024;

/// The queues of a lane.
#[derive(Clone)]
pub(super) struct Lane {
    pub(super) reads: reads::Queue,
    pub(super) creates: creates::Queue,
    pub(super) updates: updates::Queue,
}

/// What the lanes have in common.
pub(super) struct Lanes {
    opened: AtomicUsize,
    places: [Mutex<Place>; PLACES],
}

/// Where the changes of some sessions are decided, while any are.
#[derive(Default)]
struct Place {
    lane: Option<updates::Queue>,
    under_way: usize,
}

/// A change on its way. When this is dropped it has arrived.
pub(super) struct Turn {
    lanes: Arc<Lanes>,
    place: usize,
}

impl Lane {
    /// Spawns the tasks of a lane on the runtime of whoever calls this.
    pub(super) fn open(shared: &Arc<Shared>) -> Self {
        let (longest, most) = (shared.max_waiting, shared.most);
        let patience = shared.limits.statement_timeout;
        let metrics = &shared.metrics;
        let (reads, wanted) = queue(longest, most, patience, &metrics.reads);
        tokio::spawn(reads::run(shared.clone(), wanted));
        let (creates, wanted) = queue(longest, most, patience, &metrics.creates);
        tokio::spawn(creates::run(shared.clone(), wanted));
        let (updates, wanted) = queue(longest, most, patience, &metrics.updates);
        tokio::spawn(updates::run(shared.clone(), wanted));
        Self { reads, creates, updates }
    }

    /// The same for another thread: a lane of its own, while there are few.
    pub(super) fn another(&self, shared: &Arc<Shared>) -> Self {
        if shared.lanes.opened.fetch_add(1, Ordering::Relaxed) >= LANES {
            return self.clone();
        }
        Self::open(shared)
    }
}

impl Lanes {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: AtomicUsize::new(0),
            places: std::array::from_fn(|_| Mutex::default()),
        })
    }

    /// Where a change of a session is to be decided: in `own`, unless some are under way elsewhere.
    pub(super) fn turn(
        self: &Arc<Self>,
        id: SessionId,
        own: &updates::Queue,
    ) -> (updates::Queue, Turn) {
        let number = id.place(PLACES);
        let mut place = self.place(number);
        place.under_way += 1;
        let lane = place.lane.get_or_insert_with(|| own.clone()).clone();
        (lane, Turn { lanes: self.clone(), place: number })
    }

    fn place(&self, number: usize) -> MutexGuard<'_, Place> {
        // Nothing panics while it is held.
        self.places[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut place = self.lanes.place(self.place);
        place.under_way -= 1;
        if place.under_way == 0 {
            place.lane = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn changes_of_a_session_stay_together_while_any_are_under_way() {
        let lanes = Lanes::new();
        let (one, _one) = queue(1, 1, Duration::MAX, &Arc::default());
        let (other, _other) = queue(1, 1, Duration::MAX, &Arc::default());
        let id = |number| SessionId::new(uuid::Uuid::from_u128(number));
        let (went, first) = lanes.turn(id(7), &one);
        assert!(went.is(&one));
        let (went, second) = lanes.turn(id(7), &other);
        assert!(went.is(&one));
        drop(first);
        let (went, third) = lanes.turn(id(7), &other);
        assert!(went.is(&one));
        assert!(lanes.turn(id(8), &other).0.is(&other));
        drop((second, third));
        assert!(lanes.turn(id(7), &other).0.is(&other));
    }
}
