//! The memory for the bodies of running requests: a bound for the process, and a share for each owner.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ipnet::IpNet;

use crate::domain::Buin;
use crate::http::shared::fair_budget::FairBudget;
use crate::metrics::{Metrics, RequestBodies};
use crate::service::WorkTurns;

/// The owner of a body, whose share the body takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BodyOwner {
    /// The enterprise of an authenticated app.
    Enterprise(Buin),
    /// The network of a caller that is not authenticated before its body is read.
    Network(IpNet),
}

/// The memory for bodies, on one thread. Clones do not write to a reference counter that threads share.
#[derive(Clone)]
pub(crate) struct BodyBudget(Rc<BudgetHandle>);

/// The reference of one thread to the memory of all threads.
struct BudgetHandle {
    shared: Arc<SharedBodyBudget>,
    turns: WorkTurns,
}

/// The memory for bodies, of all threads.
pub(crate) struct SharedBodyBudget {
    shares: FairBudget,
    metrics: Arc<Metrics>,
}

/// The bodies in flight take too much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverBudget;

/// Bytes that count as in flight until this is dropped.
pub(crate) struct BytesInFlight {
    budget: BodyBudget,
    slot: usize,
    bytes: u64,
}

impl SharedBodyBudget {
    /// A budget of `max` bytes, which reports to `metrics`.
    pub(crate) fn new(max: usize, metrics: Arc<Metrics>) -> Self {
        let max = max as u64;
        metrics.request_bodies.max.store(max, Ordering::Relaxed);
        Self { shares: FairBudget::new(max), metrics }
    }

    fn bodies(&self) -> &RequestBodies {
        &self.metrics.request_bodies
    }

    /// Adds `more` bytes for an owner, if they fit.
    fn add(&self, slot: usize, more: u64) -> Result<(), OverBudget> {
        if self.shares.add(&self.bodies().in_flight, slot, more) {
            return Ok(());
        }
        self.bodies().rejected.inc();
        Err(OverBudget)
    }

    fn remove(&self, slot: usize, bytes: u64) {
        self.shares.remove(&self.bodies().in_flight, slot, bytes);
    }
}

impl BodyBudget {
    /// The budget on the current thread, and the turns of large requests there.
    pub(crate) fn for_current_thread(shared: Arc<SharedBodyBudget>, turns: WorkTurns) -> Self {
        Self(Rc::new(BudgetHandle { shared, turns }))
    }

    /// Waits for the turn of the work on a body.
    pub(super) async fn take_turn(&self, bytes: usize) {
        self.0.turns.take(bytes).await;
    }

    /// Counts `bytes` of an owner as in flight.
    ///
    /// # Errors
    /// [`OverBudget`] if they do not fit: nothing is counted.
    pub(super) fn reserve(
        &self,
        owner: BodyOwner,
        bytes: u64,
    ) -> Result<BytesInFlight, OverBudget> {
        let slot = self.0.shared.shares.slot(owner);
        self.0.shared.add(slot, bytes)?;
        Ok(BytesInFlight { budget: self.clone(), slot, bytes })
    }
}

impl BytesInFlight {
    /// Counts `more` bytes.
    ///
    /// # Errors
    /// [`OverBudget`] if they do not fit: only the bytes from before count.
    pub(super) fn grow(&mut self, more: u64) -> Result<(), OverBudget> {
        self.budget.0.shared.add(self.slot, more)?;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for BytesInFlight {
    fn drop(&mut self) {
        self.budget.0.shared.remove(self.slot, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(max: usize) -> BodyBudget {
        let shared = Arc::new(SharedBodyBudget::new(max, Arc::default()));
        BodyBudget::for_current_thread(shared, WorkTurns::new())
    }

    /// Owners that share no counter.
    fn owners<const N: usize>(budget: &BodyBudget) -> [BodyOwner; N] {
        let mut found: Vec<BodyOwner> = Vec::new();
        for number in 1.. {
            let owner = BodyOwner::Enterprise(Buin::new(number).unwrap());
            let slot = budget.0.shared.shares.slot(owner);
            if found.iter().all(|other| budget.0.shared.shares.slot(*other) != slot) {
                found.push(owner);
            }
            if found.len() == N {
                break;
            }
        }
        found.try_into().unwrap()
    }

    /// Takes as much as the owner gets, in pieces of one byte.
    fn take_all(budget: &BodyBudget, owner: BodyOwner) -> BytesInFlight {
        let mut held = budget.reserve(owner, 0).unwrap();
        while held.grow(1).is_ok() {}
        held
    }

    fn in_flight(budget: &BodyBudget) -> u64 {
        budget.0.shared.bodies().in_flight.load(Ordering::Relaxed)
    }

    #[test]
    fn each_owner_leaves_as_much_free_as_it_holds() {
        let budget = budget(1_000);
        let [one, two, three] = owners(&budget);
        let first = take_all(&budget, one);
        assert_eq!(first.bytes, 500, "one owner takes at most half");
        let second = take_all(&budget, two);
        assert_eq!(second.bytes, 250, "and another one half of the rest");
        drop(first);
        let third = take_all(&budget, three);
        assert_eq!(third.bytes, 375);
        drop((second, third));
        assert_eq!(in_flight(&budget), 0);
    }

    #[test]
    fn refused_bytes_do_not_count() {
        let budget = budget(100);
        let [one, two] = owners(&budget);
        let mut held = budget.reserve(one, 40).unwrap();
        assert_eq!(held.grow(11), Err(OverBudget));
        assert!(budget.reserve(one, 11).is_err());
        assert_eq!((held.bytes, in_flight(&budget)), (40, 40));
        assert_eq!(held.grow(10), Ok(()));
        assert!(budget.reserve(two, 25).is_ok());
        assert!(budget.reserve(two, 26).is_err());
        assert_eq!(budget.0.shared.bodies().rejected.value(), 3);
        drop(held);
        assert_eq!(in_flight(&budget), 0);
    }

    #[test]
    fn concurrent_reservations_are_all_released() {
        let shared = Arc::new(SharedBodyBudget::new(1_000, Arc::default()));
        std::thread::scope(|scope| {
            for number in 1..=4 {
                let shared = shared.clone();
                scope.spawn(move || {
                    let budget = BodyBudget::for_current_thread(shared, WorkTurns::new());
                    let owner = BodyOwner::Enterprise(Buin::new(number).unwrap());
                    for bytes in 0..2_000 {
                        drop(budget.reserve(owner, bytes % 700));
                    }
                });
            }
        });
        let budget = BodyBudget::for_current_thread(shared, WorkTurns::new());
        assert_eq!(in_flight(&budget), 0);
        assert!(budget.0.shared.shares.is_unused());
    }
}
