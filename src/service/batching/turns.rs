//! Lets the enterprises that fill a queue take turns.
//!
//! Otherwise an enterprise with thousands of requests would make those of all others wait behind them.
//! Nothing here is used while all queued commands fit into the next batch.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::domain::Buin;

/// The number of counters is 2 to the power of this number. Two enterprises seldom share one.
const GROUP_BITS: u32 = 10;

/// The numbers of commands in a queue, by enterprise.
pub(super) struct QueuedCounts(Box<[AtomicUsize]>);

impl QueuedCounts {
    pub(super) fn new() -> Self {
        Self((0..1 << GROUP_BITS).map(|_| AtomicUsize::new(0)).collect())
    }

    /// Counts a command before it is queued.
    pub(super) fn add(&self, buin: Buin) {
        self.group(buin).fetch_add(1, Ordering::Relaxed);
    }

    /// Removes a command that is not queued any more.
    pub(super) fn remove(&self, buin: Buin) {
        self.group(buin).fetch_sub(1, Ordering::Relaxed);
    }

    /// The number of commands of an enterprise.
    pub(super) fn count_of(&self, buin: Buin) -> usize {
        self.group(buin).load(Ordering::Relaxed)
    }

    /// The number of commands whose turn comes before that of a new command of an enterprise.
    pub(super) fn ahead_of(&self, buin: Buin) -> usize {
        let turns = self.count_of(buin) + 1;
        let ahead = self.0.iter().map(|count| count.load(Ordering::Relaxed).min(turns));
        // All queued commands of the enterprise itself come before a new one. Their number is less than
        // `turns`, so `min` does not shorten it.
        ahead.sum()
    }

    fn group(&self, buin: Buin) -> &AtomicUsize {
        // Multiplication by the golden ratio spreads numbers that are close to each other.
        let spread = buin.get().unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Only the first bits remain, so the number fits.
        &self.0[(spread >> (u64::BITS - GROUP_BITS)) as usize]
    }
}

/// Items in the order in which they are taken: the enterprises by turns, each one in its own order.
pub(super) struct Turns<T> {
    items: HashMap<Buin, VecDeque<T>>,
    /// The enterprises that have items. The first one is next.
    order: VecDeque<Buin>,
}

impl<T> Turns<T> {
    pub(super) fn new() -> Self {
        Self { items: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds an item behind the others of its enterprise.
    pub(super) fn push(&mut self, buin: Buin, item: T) {
        let items = self.items.entry(buin).or_default();
        if items.is_empty() {
            self.order.push_back(buin);
        }
        items.push_back(item);
    }

    /// Takes the next item.
    pub(super) fn pop(&mut self) -> Option<T> {
        let buin = self.order.pop_front()?;
        let items = self.items.get_mut(&buin)?;
        let item = items.pop_front();
        match items.is_empty() {
            true => _ = self.items.remove(&buin),
            false => self.order.push_back(buin),
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buin(number: i64) -> Buin {
        Buin::new(number).unwrap()
    }

    #[test]
    fn enterprises_take_turns_and_keep_their_own_order() {
        let mut turns = Turns::new();
        for (number, item) in [(1, "a"), (1, "b"), (1, "c"), (2, "d"), (3, "e"), (2, "f")] {
            turns.push(buin(number), item);
        }
        let mut taken: Vec<_> = std::iter::from_fn(|| turns.pop()).take(4).collect();
        // An enterprise whose queue became empty is the last one when it queues an item again.
        turns.push(buin(3), "g");
        taken.extend(std::iter::from_fn(|| turns.pop()));
        assert_eq!(taken, ["a", "d", "e", "b", "f", "c", "g"]);
        assert!(turns.is_empty() && turns.items.is_empty());
    }

    #[test]
    fn only_commands_with_an_earlier_turn_are_ahead() {
        let counts = QueuedCounts::new();
        let add = |number, commands| (0..commands).for_each(|_| counts.add(buin(number)));
        add(1, 1_000);
        assert_eq!((counts.ahead_of(buin(1)), counts.ahead_of(buin(2))), (1_000, 1));
        add(2, 3);
        add(3, 1);
        // Three of its own, four of the first and one of the third enterprise.
        assert_eq!(counts.ahead_of(buin(2)), 3 + 4 + 1);
        assert_eq!(counts.ahead_of(buin(1)), 1_000 + 3 + 1);
        counts.remove(buin(3));
        assert_eq!((counts.ahead_of(buin(2)), counts.count_of(buin(3))), (7, 0));
    }
}
