//! Memory that many owners use: a bound for all of them, and a share for each one.
//!
//! An owner holds at most as much as remains free. So one owner gets at most half of the memory, two
//! get a third each, and a part always remains for another one. The counters of owners are found by a
//! hash: nothing is allocated and nothing is locked. The surprise: two owners with the same hash share
//! one counter, which can only refuse them earlier.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of counters of owners.
const MAX_OWNER_COUNTERS: usize = 4_096;

/// The bytes that each owner holds. The caller has the number of all held bytes.
pub(crate) struct FairBudget {
    max: u64,
    hasher: RandomState,
    owners: Box<[AtomicU64]>,
}

impl FairBudget {
    /// A budget of `max` bytes.
    pub(crate) fn new(max: u64) -> Self {
        let owners = (0..MAX_OWNER_COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Self { max, hasher: RandomState::new(), owners }
    }

    /// The counter of an owner.
    pub(crate) fn slot(&self, owner: impl Hash) -> usize {
        // The remainder is smaller than the number of slots, so it fits any integer.
        (self.hasher.hash_one(owner) % MAX_OWNER_COUNTERS as u64) as usize
    }

    /// Adds `more` bytes for an owner to `all`, if they fit. Returns whether they do.
    pub(crate) fn add(&self, all: &AtomicU64, slot: usize, more: u64) -> bool {
        let held = all.fetch_add(more, Ordering::Relaxed) + more;
        let own = self.owners[slot].fetch_add(more, Ordering::Relaxed) + more;
        let fits = held.saturating_add(own) <= self.max;
        if !fits {
            self.remove(all, slot, more);
        }
        fits
    }

    /// Removes bytes that were added.
    pub(crate) fn remove(&self, all: &AtomicU64, slot: usize, bytes: u64) {
        self.owners[slot].fetch_sub(bytes, Ordering::Relaxed);
        all.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether no owner holds anything.
    #[cfg(test)]
    pub(crate) fn is_unused(&self) -> bool {
        self.owners.iter().all(|held| held.load(Ordering::Relaxed) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_owners_than_counters_share_them() {
        let (budget, all) = (FairBudget::new(1_000_000), AtomicU64::new(0));
        let slots: Vec<_> = (0..2 * MAX_OWNER_COUNTERS).map(|owner| budget.slot(owner)).collect();
        assert!(slots.iter().all(|slot| budget.add(&all, *slot, 7)));
        assert_eq!(all.load(Ordering::Relaxed), 7 * slots.len() as u64);
        slots.iter().for_each(|slot| budget.remove(&all, *slot, 7));
        assert!(budget.is_unused() && all.load(Ordering::Relaxed) == 0);
    }
}
