//! The memory for the bodies of running requests: a bound for the process, and a share for each owner.
//!
//! Enterprises share the whole memory. Callers that are not authenticated before their body is read share
//! a small part of it, however many addresses they have.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;

use crate::domain::Buin;
use crate::http::shared::fair_budget::FairBudget;
use crate::metrics::{Metrics, RequestBodies};
use crate::service::{WorkTurn, WorkTurns};

/// The bytes of the bodies of all callers that are not authenticated; of a small budget, a quarter.
const MAX_ANONYMOUS_BODIES: usize = 8 * 1024 * 1024;

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
    max: u64,
    enterprises: FairBudget,
    anonymous: FairBudget,
    /// The bytes of anonymous callers. The metrics have the bytes of all.
    held_by_anonymous: AtomicU64,
    metrics: Arc<Metrics>,
}

/// The counter of an owner.
#[derive(Clone, Copy)]
enum OwnerSlot {
    Enterprise(usize),
    Anonymous(usize),
}

/// The bodies in flight take too much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverBudget;

/// Bytes that count as in flight until this is dropped.
pub(crate) struct BytesInFlight {
    budget: BodyBudget,
    slot: OwnerSlot,
    bytes: u64,
}

impl SharedBodyBudget {
    /// A budget of `max` bytes, which reports to `metrics`.
    pub(crate) fn new(max: usize, metrics: Arc<Metrics>) -> Self {
        metrics.request_bodies.max.store(max as u64, Ordering::Relaxed);
        let anonymous = MAX_ANONYMOUS_BODIES.min(max / 4);
        Self {
            max: max as u64,
            enterprises: FairBudget::new(max as u64),
            anonymous: FairBudget::new(anonymous as u64),
            held_by_anonymous: AtomicU64::new(0),
            metrics,
        }
    }

    fn bodies(&self) -> &RequestBodies {
        &self.metrics.request_bodies
    }

    fn slot(&self, owner: BodyOwner) -> OwnerSlot {
        match owner {
            BodyOwner::Enterprise(buin) => OwnerSlot::Enterprise(self.enterprises.slot(buin)),
            BodyOwner::Network(network) => OwnerSlot::Anonymous(self.anonymous.slot(network)),
        }
    }

    /// Adds `more` bytes for an owner, if they fit.
    fn add(&self, slot: OwnerSlot, more: u64) -> Result<(), OverBudget> {
        let all = &self.bodies().in_flight;
        let fits = match slot {
            OwnerSlot::Enterprise(slot) => self.enterprises.add(all, slot, more),
            OwnerSlot::Anonymous(slot) => {
                let fits = self.anonymous.add(&self.held_by_anonymous, slot, more);
                let held = if fits { all.fetch_add(more, Ordering::Relaxed) + more } else { 0 };
                if held > self.max {
                    self.remove(OwnerSlot::Anonymous(slot), more);
                }
                fits && held <= self.max
            }
        };
        if fits {
            return Ok(());
        }
        self.bodies().rejected.inc();
        Err(OverBudget)
    }

    fn remove(&self, slot: OwnerSlot, bytes: u64) {
        let all = &self.bodies().in_flight;
        match slot {
            OwnerSlot::Enterprise(slot) => self.enterprises.remove(all, slot, bytes),
            OwnerSlot::Anonymous(slot) => {
                self.anonymous.remove(&self.held_by_anonymous, slot, bytes);
                all.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
    }
}

impl BodyBudget {
    /// The budget on the current thread, and the turns of large requests there.
    pub(crate) fn for_current_thread(shared: Arc<SharedBodyBudget>, turns: WorkTurns) -> Self {
        Self(Rc::new(BudgetHandle { shared, turns }))
    }

    /// Takes a turn for the work on a body; `None` if the work is little.
    pub(super) async fn take_turn(&self, bytes: usize) -> Option<WorkTurn> {
        self.0.turns.take(bytes).await
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
        let slot = self.0.shared.slot(owner);
        self.0.shared.add(slot, bytes)?;
        Ok(BytesInFlight { budget: self.clone(), slot, bytes })
    }
}

impl BytesInFlight {
    /// Counts `more` bytes.
    ///
    /// # Errors
    /// [`OverBudget`] if they do not fit: only the bytes from before count.
    pub(crate) fn grow(&mut self, more: u64) -> Result<(), OverBudget> {
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
            let slot = |owner| match budget.0.shared.slot(owner) {
                OwnerSlot::Enterprise(slot) | OwnerSlot::Anonymous(slot) => slot,
            };
            if found.iter().all(|other| slot(*other) != slot(owner)) {
                found.push(owner);
            }
            if found.len() == N {
                break;
            }
        }
        found.try_into().unwrap()
    }

    /// Acquires as much as the owner gets, in pieces of one byte.
    fn acquire_all(budget: &BodyBudget, owner: BodyOwner) -> BytesInFlight {
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
        let first = acquire_all(&budget, one);
        assert_eq!(first.bytes, 500, "one owner takes at most half");
        let second = acquire_all(&budget, two);
        assert_eq!(second.bytes, 250, "and another one half of the rest");
        drop(first);
        let third = acquire_all(&budget, three);
        assert_eq!(third.bytes, 375);
        drop((second, third));
        assert_eq!(in_flight(&budget), 0);
    }

    #[test]
    fn anonymous_callers_leave_the_memory_to_enterprises() {
        const MAX: u64 = 64 * 1024;
        let budget = budget(4 * MAX as usize);
        let caller = |number: u16| {
            let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, number, 0, 0, 0, 1);
            BodyOwner::Network(IpNet::new(address.into(), 64).unwrap())
        };
        let mut held = Vec::new();
        for number in 0..1_000 {
            held.extend((0..8).map_while(|_| budget.reserve(caller(number), 512).ok()));
        }
        let anonymous = in_flight(&budget);
        assert!((MAX * 9 / 10..=MAX).contains(&anonymous), "{anonymous}");
        let [one, two, three] = owners(&budget);
        let first = acquire_all(&budget, one);
        assert_eq!(first.bytes, (4 * MAX - anonymous) / 2);
        assert!(budget.reserve(two, MAX / 2).is_ok());
        // The bytes of enterprises are not there for anonymous callers.
        held.clear();
        let rest = [acquire_all(&budget, two), acquire_all(&budget, three)];
        let mut anonymous = budget.reserve(caller(1), 0).unwrap();
        let free = 4 * MAX - in_flight(&budget);
        while anonymous.grow(1).is_ok() {}
        assert_eq!(anonymous.bytes, free.min(MAX / 2));
        drop((first, rest, anonymous));
        assert_eq!(in_flight(&budget), 0);
        assert!(budget.0.shared.anonymous.is_unused() && budget.0.shared.enterprises.is_unused());
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
        assert!(budget.0.shared.enterprises.is_unused());
    }
}
