//! Permits for work that runs or waits on this server, counted for each owner.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// The permits that owners have. An owner without a permit takes no memory. A clone shares the permits.
pub(super) struct OwnerPermits<K>(Arc<Mutex<HashMap<K, usize>>>);

/// A permit of an owner, until it is dropped.
pub(super) struct OwnerPermit<K: Eq + Hash> {
    permits: OwnerPermits<K>,
    owner: K,
}

/// The reason why an owner gets no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PermitsTaken {
    /// The owner has as many as it may have.
    ByOwner,
    /// All owners together have as many as they may have.
    ByAll,
}

impl<K> Clone for OwnerPermits<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for OwnerPermits<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Clone + Eq + Hash> OwnerPermits<K> {
    /// Acquires a permit for an owner, which may have `max_of_owner`. All owners together have at most `max`,
    /// if there is such a limit.
    ///
    /// # Errors
    /// [`PermitsTaken`]. Nothing is counted.
    pub(super) fn acquire(
        &self,
        owner: K,
        max_of_owner: usize,
        max: Option<usize>,
    ) -> Result<OwnerPermit<K>, PermitsTaken> {
        // No code panics while it holds the lock.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.get(&owner).copied().unwrap_or_default();
        if own >= max_of_owner {
            return Err(PermitsTaken::ByOwner);
        }
        if max.is_some_and(|max| counts.values().sum::<usize>() >= max) {
            return Err(PermitsTaken::ByAll);
        }
        counts.insert(owner.clone(), own + 1);
        Ok(OwnerPermit { permits: self.clone(), owner })
    }

    /// Whether no owner has a permit.
    #[cfg(test)]
    pub(super) fn is_unused(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

impl<K: Eq + Hash> Drop for OwnerPermit<K> {
    fn drop(&mut self) {
        let mut counts = self.permits.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = counts.get_mut(&self.owner) {
            *own -= 1;
            if *own == 0 {
                counts.remove(&self.owner);
            }
        }
    }
}
