//! The places for connections on one thread. If all are taken, the anonymous connection that has been
//! idle for the longest time makes room for a new one. A server that stops wakes all connections here,
//! so that they close.
//!
//! A connection is anonymous until one of its requests has a valid credential. An anonymous connection
//! costs nothing to open, so it may not keep callers out. If no idle one is left, the new connection
//! waits. Nothing here is shared between threads, and a request with a valid credential on a known
//! connection changes nothing here.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::time::Instant;

/// The places for connections on one thread.
#[derive(Debug)]
pub(super) struct ConnectionSlots {
    capacity: usize,
    taken: Cell<usize>,
    /// Connections that were asked to make room, and are still open.
    leaving: Cell<usize>,
    /// Connections that wait for a place.
    waiting: Cell<usize>,
    /// All connections that have a place, by their number.
    all: RefCell<BTreeMap<u64, Rc<Occupant>>>,
    /// The idle anonymous connections. The key rises with the time at which they became idle.
    idle: RefCell<BTreeMap<u64, Rc<Occupant>>>,
    /// Since when the server closes its connections.
    closing_since: Cell<Option<Instant>>,
    next_key: Cell<u64>,
    /// Set when a place may be free, or an anonymous connection has become idle.
    changed: Notify,
}

/// A connection that has a place.
#[derive(Debug)]
pub(super) struct Occupant {
    slots: Rc<ConnectionSlots>,
    /// The key in `all`.
    number: u64,
    /// The key in `idle`, while the connection is there.
    key: Cell<Option<u64>>,
    /// Whether a request had a valid credential.
    is_known: Cell<bool>,
    /// Whether the connection must make room.
    is_evicted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The place of a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Rc<Occupant>);

impl ConnectionSlots {
    pub(super) fn new(capacity: usize) -> Rc<Self> {
        Rc::new(Self {
            capacity,
            taken: Cell::default(),
            leaving: Cell::default(),
            waiting: Cell::default(),
            all: RefCell::default(),
            idle: RefCell::default(),
            closing_since: Cell::default(),
            next_key: Cell::default(),
            changed: Notify::default(),
        })
    }

    /// Takes a place, as soon as there is one. The connection counts as idle.
    pub(super) async fn take(self: &Rc<Self>) -> Slot {
        while self.taken.get() >= self.capacity {
            // One at a time: each new connection needs one place.
            if self.leaving.get() == 0 {
                self.evict_one();
            }
            self.waiting.set(self.waiting.get() + 1);
            // Everything runs on one thread, so no change comes between the check and the wait.
            self.changed.notified().await;
            self.waiting.set(self.waiting.get() - 1);
        }
        self.taken.set(self.taken.get() + 1);
        let occupant = Occupant::new(self);
        self.all.borrow_mut().insert(occupant.number, occupant.clone());
        occupant.set_idle();
        Slot(occupant)
    }

    fn evict_one(&self) {
        let Some((_, occupant)) = self.idle.borrow_mut().pop_first() else { return };
        self.leaving.set(self.leaving.get() + 1);
        occupant.key.set(None);
        occupant.is_evicted.set(true);
        occupant.wake();
    }

    /// Closes every connection as soon as it owes no response.
    pub(super) fn close_connections(&self) {
        self.closing_since.set(Some(Instant::now()));
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
            is_known: Cell::default(),
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
    pub(super) fn closing_since(&self) -> Option<Instant> {
        self.slots.closing_since.get()
    }

    /// Records that a request began.
    pub(super) fn set_busy(&self) {
        if let Some(key) = self.key.take() {
            self.slots.idle.borrow_mut().remove(&key);
        }
    }

    /// Records that no request runs.
    pub(super) fn set_idle(self: &Rc<Self>) {
        if self.is_known.get() || self.is_evicted.get() {
            return;
        }
        let key = self.slots.next_key();
        self.key.set(Some(key));
        self.slots.idle.borrow_mut().insert(key, self.clone());
        if self.slots.waiting.get() > 0 {
            self.slots.changed.notify_waiters();
        }
    }

    /// Records that a request has a valid credential. The connection stays open from now on.
    pub(super) fn set_known(&self) {
        if !self.is_known.replace(true) {
            self.set_busy();
        }
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
        slots.all.borrow_mut().remove(&self.0.number);
        slots.taken.set(slots.taken.get() - 1);
        if self.0.is_evicted.get() {
            slots.leaving.set(slots.leaving.get() - 1);
        }
        slots.changed.notify_waiters();
    }
}

#[cfg(test)]
impl Occupant {
    /// A connection with a place of its own.
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

    /// Takes a place that is free.
    fn take(slots: &Rc<ConnectionSlots>) -> Slot {
        slots.take().now_or_never().expect("no place is free")
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

    #[tokio::test]
    async fn connection_that_is_idle_for_the_longest_time_makes_room() {
        let slots = ConnectionSlots::new(3);
        let mut open = [take(&slots), take(&slots), take(&slots)].map(Some);
        // The first one has had a request since.
        open[0].as_ref().unwrap().0.set_busy();
        open[0].as_ref().unwrap().0.set_idle();
        let mut newcomer = pin!(slots.take());
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
        let (known, busy) = (take(&slots), take(&slots));
        known.0.set_busy();
        known.0.set_known();
        known.0.set_idle();
        busy.0.set_busy();
        let mut newcomer = pin!(slots.take());
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
        let first = take(&slots);
        first.0.set_known();
        let mut newcomer = pin!(slots.take());
        assert!(poll!(&mut newcomer).is_pending());
        drop(first);
        let second = match poll!(&mut newcomer) {
            Poll::Ready(slot) => slot,
            Poll::Pending => panic!("the place is free"),
        };
        drop(second);
        assert_eq!((slots.taken.get(), slots.idle.borrow().len()), (0, 0));
        assert!(slots.all.borrow().is_empty());
    }

    #[tokio::test]
    async fn all_connections_are_woken_when_the_server_closes_them() {
        let slots = ConnectionSlots::new(2);
        let (known, busy) = (take(&slots), take(&slots));
        known.0.set_known();
        busy.0.set_busy();
        let (waker, count) = counting_waker();
        for slot in [&known, &busy] {
            assert!(slot.0.poll_evicted(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(slot.0.closing_since(), None);
        }
        slots.close_connections();
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
        assert!(known.0.closing_since().is_some() && busy.0.closing_since().is_some());
        // A connection that is accepted later knows it too.
        drop(known);
        assert!(take(&slots).0.closing_since().is_some());
    }
}
