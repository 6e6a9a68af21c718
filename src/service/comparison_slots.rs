//! Bounds the number of comparisons that run at the same time: on this server, and for each enterprise.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Error;
use crate::domain::Buin;

/// The maximum number of comparisons that run on a server.
const MAX_COMPARISONS: usize = 16;
/// The maximum number of comparisons of one enterprise that run on a server.
const MAX_COMPARISONS_PER_ENTERPRISE: usize = 2;

/// The comparisons that run.
#[derive(Default)]
pub(super) struct ComparisonSlots {
    /// The enterprises that run any.
    running: Mutex<HashMap<Buin, usize>>,
}

/// A comparison that runs until this is dropped.
pub(super) struct ComparisonSlot {
    slots: Arc<ComparisonSlots>,
    buin: Buin,
}

impl ComparisonSlots {
    /// Counts a comparison of an enterprise as running.
    ///
    /// # Errors
    /// [`Error::TooManyComparisons`] or [`Error::Overloaded`]. Nothing is counted.
    pub(super) fn take(self: &Arc<Self>, buin: Buin) -> Result<ComparisonSlot, Error> {
        // No code panics while it holds the lock.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let own = running.get(&buin).copied().unwrap_or_default();
        if own >= MAX_COMPARISONS_PER_ENTERPRISE {
            return Err(Error::TooManyComparisons { max: MAX_COMPARISONS_PER_ENTERPRISE });
        }
        if running.values().sum::<usize>() >= MAX_COMPARISONS {
            return Err(Error::Overloaded { wait: Duration::from_secs(1) });
        }
        running.insert(buin, own + 1);
        Ok(ComparisonSlot { slots: self.clone(), buin })
    }
}

impl Drop for ComparisonSlot {
    fn drop(&mut self) {
        let mut running = self.slots.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.get(&self.buin).copied().unwrap_or_default() {
            0 | 1 => _ = running.remove(&self.buin),
            own => _ = running.insert(self.buin, own - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buin(number: usize) -> Buin {
        Buin::new(i64::try_from(number).unwrap()).unwrap()
    }

    #[test]
    fn comparisons_are_bounded_for_an_enterprise_and_for_all() {
        let slots = Arc::new(ComparisonSlots::default());
        let mut held = Vec::new();
        for number in 1..=MAX_COMPARISONS / MAX_COMPARISONS_PER_ENTERPRISE {
            for _ in 0..MAX_COMPARISONS_PER_ENTERPRISE {
                held.push(slots.take(buin(number)).ok().unwrap());
            }
            let refused = slots.take(buin(number)).err();
            assert!(matches!(refused, Some(Error::TooManyComparisons { max: 2 })), "{refused:?}");
        }
        assert!(matches!(slots.take(buin(100)).err(), Some(Error::Overloaded { .. })));
        held.pop();
        held.push(slots.take(buin(100)).ok().unwrap());
        drop(held);
        assert!(slots.running.lock().unwrap().is_empty());
    }
}
