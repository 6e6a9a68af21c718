//! The slots for connections on one thread. If all are used, an idle connection makes room for a new
//! one. A server that stops wakes all connections here, so that they close.
//!
//! A connection is anonymous until one of its requests has a valid credential, and belongs to the
//! enterprise of that credential from then on. An anonymous connection costs nothing to open, so it may
//! not keep callers out: the one that has been idle for the longest time makes room first. Anonymous callers
//! cannot close the connections of enterprises as long as these leave a part of the slots free. Beyond
//! that, the enterprise with the most connections makes room, so that it does not keep another one out. If
//! no connection is idle, the new one waits.
//!
//! Nothing here is shared between threads. A request with a valid credential on a known connection writes
//! two numbers here, and looks nothing up.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::domain::Buin;

/// The part of the slots that enterprises leave free if others need them: one of this many.
const FREE_PART_OF: usize = 4;

/// The slots for connections on one thread.
#[derive(Debug)]
pub(super) struct ConnectionSlots {
    capacity: usize,
    used: Cell<usize>,
    /// Connections that were asked to make room, and are still open.
    leaving: Cell<usize>,
    /// Connections that wait for a slot.
    waiting: Cell<usize>,
    /// All connections that have a slot, by their number.
    all: RefCell<BTreeMap<u64, Rc<Occupant>>>,
    /// The idle anonymous connections. The key rises with the time at which they became idle.
    idle: RefCell<BTreeMap<u64, Rc<Occupant>>>,
    /// The connections of each enterprise, by their number.
    known: RefCell<HashMap<Buin, BTreeMap<u64, Rc<Occupant>>>>,
    /// The number of connections of all enterprises.
    known_count: Cell<usize>,
    /// Since when the server closes its connections.
    closing_started_at: Cell<Option<Instant>>,
    next_key: Cell<u64>,
    /// Set when a slot may be free, or a connection has become idle.
    changed: Notify,
}

/// A connection that has a slot.
#[derive(Debug)]
pub(super) struct Occupant {
    slots: Rc<ConnectionSlots>,
    /// The key in `all`.
    number: u64,
    /// The key in `idle`, while the connection is there.
    key: Cell<Option<u64>>,
    /// Since when the connection is idle: a number that rises with the time. `None` while it is busy.
    idle_since: Cell<Option<u64>>,
    /// The enterprise of the first valid credential.
    enterprise: Cell<Option<Buin>>,
    /// Whether the connection must make room.
    is_evicted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The slot of a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Rc<Occupant>);

impl ConnectionSlots {
    pub(super) fn new(capacity: usize) -> Rc<Self> {
        Rc::new(Self {
            capacity,
            used: Cell::default(),
            leaving: Cell::default(),
            waiting: Cell::default(),
            all: RefCell::default(),
            idle: RefCell::default(),
            known: RefCell::default(),
            known_count: Cell::default(),
            closing_started_at: Cell::default(),
            next_key: Cell::default(),
            changed: Notify::default(),
        })
    }

    /// Acquires a slot, as soon as there is one. The connection counts as idle.
    pub(super) async fn acquire(self: &Rc<Self>) -> Slot {
        while self.used.get() >= self.capacity {
            // One at a time: each new connection needs one slot.
            if self.leaving.get() == 0 {
                self.evict_one();
            }
            self.waiting.set(self.waiting.get() + 1);
            // Everything runs on one thread, so no change comes between the check and the wait.
            self.changed.notified().await;
            self.waiting.set(self.waiting.get() - 1);
        }
        self.used.set(self.used.get() + 1);
        let occupant = Occupant::new(self);
        self.all.borrow_mut().insert(occupant.number, occupant.clone());
        occupant.set_idle();
        Slot(occupant)
    }

    fn evict_one(&self) {
        let anonymous = self.idle.borrow_mut().pop_first().map(|(_, occupant)| occupant);
        let Some(occupant) = anonymous.or_else(|| self.most_idle_known()) else { return };
        self.leaving.set(self.leaving.get() + 1);
        occupant.key.set(None);
        occupant.is_evicted.set(true);
        occupant.wake();
    }

    /// The connection that has been idle for the longest time, of the enterprise with the most connections
    /// among those with an idle one. `None` while enterprises leave enough slots to others.
    fn most_idle_known(&self) -> Option<Rc<Occupant>> {
        if self.known_count.get() <= self.capacity - self.capacity / FREE_PART_OF {
            return None;
        }
        let (mut most, mut chosen) = (0, None);
        for connections in self.known.borrow().values() {
            if connections.len() <= most {
                continue;
            }
            let idle = connections.values().filter_map(|occupant| {
                let since = occupant.idle_since.get().filter(|_| !occupant.is_evicted.get())?;
                Some((since, occupant))
            });
            if let Some((_, occupant)) = idle.min_by_key(|(since, _)| *since) {
                (most, chosen) = (connections.len(), Some(occupant.clone()));
            }
        }
        chosen
    }

    /// Closes every connection as soon as it owes no response.
    pub(super) fn close_connections(&self) {
        self.closing_started_at.set(Some(Instant::now()));
        for occupant in self.all.borrow().values() {
            occupant.wake();
        }
    }

    fn next_key(&self) -> u64 {
        let key = self.next_key.get();
        self.next_key.set(key + 1);
        key
    }
}

impl Occupant {
    fn new(slots: &Rc<ConnectionSlots>) -> Rc<Self> {
        Rc::new(Self {
            slots: slots.clone(),
            number: slots.next_key(),
            key: Cell::default(),
            idle_since: Cell::default(),
            enterprise: Cell::default(),
            is_evicted: Cell::default(),
            waker: RefCell::default(),
        })
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Since when the server closes its connections.
    pub(super) fn closing_started_at(&self) -> Option<Instant> {
        self.slots.closing_started_at.get()
    }

    /// Records that a request began.
    pub(super) fn set_busy(&self) {
        self.idle_since.set(None);
        self.leave_idle();
    }

    fn leave_idle(&self) {
        if let Some(key) = self.key.take() {
            self.slots.idle.borrow_mut().remove(&key);
        }
    }

    /// Records that no request runs.
    pub(super) fn set_idle(self: &Rc<Self>) {
        let key = self.slots.next_key();
        self.idle_since.set(Some(key));
        if self.is_evicted.get() {
            return;
        }
        if self.enterprise.get().is_none() {
            self.key.set(Some(key));
            self.slots.idle.borrow_mut().insert(key, self.clone());
        }
        if self.slots.waiting.get() > 0 {
            self.slots.changed.notify_waiters();
        }
    }

    /// Records that a request has a valid credential of an enterprise. The first one counts: a proxy may
    /// send requests of several enterprises on a connection.
    pub(super) fn set_known(self: &Rc<Self>, buin: Buin) {
        if self.enterprise.get().is_some() {
            return;
        }
        self.enterprise.set(Some(buin));
        self.leave_idle();
        let slots = &self.slots;
        slots.known.borrow_mut().entry(buin).or_default().insert(self.number, self.clone());
        slots.known_count.set(slots.known_count.get() + 1);
    }

    /// The enterprise that the connection belongs to, if any.
    pub(super) fn enterprise(&self) -> Option<Buin> {
        self.enterprise.get()
    }

    /// Ready when the connection must make room.
    pub(super) fn poll_evicted(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_evicted.get() {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Slot {
    pub(super) fn occupant(&self) -> &Rc<Occupant> {
        &self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let slots = &self.0.slots;
        self.0.set_busy();
        if let Some(buin) = self.0.enterprise.get() {
            let mut known = slots.known.borrow_mut();
            if let Some(connections) = known.get_mut(&buin) {
                connections.remove(&self.0.number);
                if connections.is_empty() {
                    known.remove(&buin);
                }
            }
            slots.known_count.set(slots.known_count.get() - 1);
        }
        slots.all.borrow_mut().remove(&self.0.number);
        slots.used.set(slots.used.get() - 1);
        if self.0.is_evicted.get() {
            slots.leaving.set(slots.leaving.get() - 1);
        }
        slots.changed.notify_waiters();
    }
}

#[cfg(test)]
impl Occupant {
    /// A connection with a slot of its own.
    pub(super) fn for_tests() -> Rc<Self> {
        Self::new(&ConnectionSlots::new(1))
    }

    /// Closes the connections of the thread.
    pub(super) fn close_connections(&self) {
        self.slots.close_connections();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use futures_util::{FutureExt as _, poll};

    use super::*;

    /// Acquires a slot that is free.
    fn acquire_free(slots: &Rc<ConnectionSlots>) -> Slot {
        slots.acquire().now_or_never().expect("no slot is free")
    }

    fn is_evicted(slot: &Slot) -> bool {
        slot.0.poll_evicted(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// A waker that counts its calls.
    fn counting_waker() -> (Waker, Arc<WakeCount>) {
        let count = Arc::<WakeCount>::default();
        (count.clone().into(), count)
    }

    #[derive(Default)]
    struct WakeCount(AtomicUsize);

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn buin(number: i64) -> Buin {
        Buin::new(number).unwrap()
    }

    /// Acquires a slot for a connection of an enterprise, which is idle then.
    fn acquire_known(slots: &Rc<ConnectionSlots>, number: i64) -> Slot {
        let slot = acquire_free(slots);
        slot.0.set_busy();
        slot.0.set_known(buin(number));
        slot.0.set_idle();
        slot
    }

    #[tokio::test]
    async fn enterprise_with_the_most_connections_makes_room() {
        let slots = ConnectionSlots::new(8);
        let of_two: Vec<_> = (0..2).map(|_| acquire_known(&slots, 2)).collect();
        let mut of_one: Vec<_> = (0..6).map(|_| acquire_known(&slots, 1)).collect();
        // The oldest ones of the enterprise are busy, or have had a request since.
        of_one[0].0.set_busy();
        of_one[1].0.set_busy();
        of_one[1].0.set_idle();
        let mut anonymous = Vec::new();
        for _ in 0..2 {
            let mut newcomer = pin!(slots.acquire());
            assert!(poll!(&mut newcomer).is_pending());
            let evicted = of_one.iter().position(is_evicted);
            assert_eq!(evicted, Some(2));
            of_one.remove(2);
            let connection = match poll!(&mut newcomer) {
                Poll::Ready(slot) => slot,
                Poll::Pending => panic!("the slot is free"),
            };
            connection.0.set_busy();
            anonymous.push(connection);
        }
        // Enterprises leave a quarter of the slots to anonymous connections, and keep the rest.
        let mut newcomer = pin!(slots.acquire());
        assert!(poll!(&mut newcomer).is_pending());
        assert!(!of_one.iter().chain(&of_two).any(is_evicted));
        assert_eq!((of_one.len(), of_two.len()), (4, 2));
    }

    #[tokio::test]
    async fn enterprises_share_the_slots() {
        let slots = ConnectionSlots::new(8);
        let mut of_one: Vec<_> = (0..8).map(|_| acquire_known(&slots, 1)).collect();
        let mut of_two = Vec::new();
        for _ in 0..4 {
            let mut newcomer = pin!(slots.acquire());
            assert!(poll!(&mut newcomer).is_pending());
            of_one.remove(of_one.iter().position(is_evicted).unwrap());
            let Poll::Ready(slot) = poll!(&mut newcomer) else { panic!("the slot is free") };
            slot.0.set_busy();
            slot.0.set_known(buin(2));
            slot.0.set_idle();
            of_two.push(slot);
        }
        assert_eq!((of_one.len(), of_two.len()), (4, 4));
        drop((of_one, of_two));
        assert!(slots.known.borrow().is_empty() && slots.known_count.get() == 0);
    }

    #[tokio::test]
    async fn connection_that_is_idle_for_the_longest_time_makes_room() {
        let slots = ConnectionSlots::new(3);
        let mut open = [acquire_free(&slots), acquire_free(&slots), acquire_free(&slots)].map(Some);
        // The first one has had a request since.
        open[0].as_ref().unwrap().0.set_busy();
        open[0].as_ref().unwrap().0.set_idle();
        let mut newcomer = pin!(slots.acquire());
        assert!(poll!(&mut newcomer).is_pending());
        let evicted = || open.iter().map(|slot| slot.as_ref().is_some_and(is_evicted));
        assert_eq!(evicted().collect::<Vec<_>>(), [false, true, false]);
        assert!(poll!(&mut newcomer).is_pending(), "only one makes room");
        assert_eq!(evicted().collect::<Vec<_>>(), [false, true, false]);
        open[1] = None;
        assert!(poll!(&mut newcomer).is_ready());
    }

    #[tokio::test]
    async fn known_and_busy_connections_stay() {
        let slots = ConnectionSlots::new(2);
        let (known, busy) = (acquire_free(&slots), acquire_free(&slots));
        known.0.set_busy();
        known.0.set_known(buin(1));
        known.0.set_idle();
        busy.0.set_busy();
        let mut newcomer = pin!(slots.acquire());
        assert!(poll!(&mut newcomer).is_pending());
        assert!(!is_evicted(&known) && !is_evicted(&busy));
        // The request ends without a credential.
        busy.0.set_idle();
        assert!(poll!(&mut newcomer).is_pending());
        assert!(!is_evicted(&known) && is_evicted(&busy));
        drop(busy);
        assert!(poll!(&mut newcomer).is_ready());
    }

    #[tokio::test]
    async fn connection_that_leaves_by_itself_makes_room() {
        let slots = ConnectionSlots::new(1);
        let first = acquire_free(&slots);
        first.0.set_known(buin(1));
        let mut newcomer = pin!(slots.acquire());
        assert!(poll!(&mut newcomer).is_pending());
        drop(first);
        let second = match poll!(&mut newcomer) {
            Poll::Ready(slot) => slot,
            Poll::Pending => panic!("the slot is free"),
        };
        drop(second);
        assert_eq!((slots.used.get(), slots.idle.borrow().len()), (0, 0));
        assert!(slots.all.borrow().is_empty() && slots.known.borrow().is_empty());
        assert_eq!(slots.known_count.get(), 0);
    }

    #[tokio::test]
    async fn all_connections_are_woken_when_the_server_closes_them() {
        let slots = ConnectionSlots::new(2);
        let (known, busy) = (acquire_free(&slots), acquire_free(&slots));
        known.0.set_known(buin(1));
        busy.0.set_busy();
        let (waker, count) = counting_waker();
        for slot in [&known, &busy] {
            assert!(slot.0.poll_evicted(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(slot.0.closing_started_at(), None);
        }
        slots.close_connections();
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
        assert!(known.0.closing_started_at().is_some() && busy.0.closing_started_at().is_some());
        // A connection that is accepted later knows it too.
        drop(known);
        assert!(acquire_free(&slots).0.closing_started_at().is_some());
    }
}
