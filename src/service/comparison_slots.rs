//! Bounds the number of comparisons that run at the same time: on this server, and for each enterprise.

use std::time::Duration;

use super::Error;
use super::owner_permits::{OwnerPermit, OwnerPermits, PermitsTaken};
use crate::domain::Buin;

/// The maximum number of comparisons that run on a server.
const MAX_COMPARISONS: usize = 16;
/// The maximum number of comparisons of one enterprise that run on a server.
const MAX_COMPARISONS_PER_ENTERPRISE: usize = 2;

/// The comparisons that run.
#[derive(Default)]
pub(super) struct ComparisonSlots(OwnerPermits<Buin>);

impl ComparisonSlots {
    /// Counts a comparison of an enterprise as running, until the result is dropped.
    ///
    /// # Errors
    /// [`Error::TooManyComparisons`] or [`Error::Overloaded`]. Nothing is counted.
    pub(super) fn acquire(&self, buin: Buin) -> Result<OwnerPermit<Buin>, Error> {
        let taken = self.0.acquire(buin, MAX_COMPARISONS_PER_ENTERPRISE, Some(MAX_COMPARISONS));
        taken.map_err(|taken| match taken {
            PermitsTaken::ByOwner => {
                Error::TooManyComparisons { max: MAX_COMPARISONS_PER_ENTERPRISE }
            }
            PermitsTaken::ByAll => Error::Overloaded { wait: Duration::from_secs(1) },
        })
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
        let slots = ComparisonSlots::default();
        let mut held = Vec::new();
        for number in 1..=MAX_COMPARISONS / MAX_COMPARISONS_PER_ENTERPRISE {
            for _ in 0..MAX_COMPARISONS_PER_ENTERPRISE {
                held.push(slots.acquire(buin(number)).ok().unwrap());
            }
            let refused = slots.acquire(buin(number)).err();
            assert!(matches!(refused, Some(Error::TooManyComparisons { max: 2 })), "{refused:?}");
        }
        assert!(matches!(slots.acquire(buin(100)).err(), Some(Error::Overloaded { .. })));
        held.pop();
        held.push(slots.acquire(buin(100)).ok().unwrap());
        drop(held);
        assert!(slots.0.is_unused());
    }
}
