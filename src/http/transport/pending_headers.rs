//! Bounds the memory for the headers of HTTP/1 requests, and for HTTP/2 headers that are not complete.
//!
//! The framework holds up to 128 KiB for each connection, of a header that has no end or of requests
//! that the client sends in advance, before anything is known about the client. So the headers of all
//! connections share a budget, and each address has a share of it. A connection whose headers do not
//! fit is closed.

use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::http::shared::fair_budget::FairBudget;
use crate::http::shared::network::client_network;

/// The bytes of headers that are not counted: the buffer of a connection is larger in any case.
const MAX_UNCOUNTED_HEADERS: usize = 4 * 1024;
/// The bytes of the headers of all connections.
const MAX_PENDING_HEADERS: u64 = 32 * 1024 * 1024;

/// The memory for the pending headers of all connections.
pub(super) struct HeaderBudget {
    shares: FairBudget,
    all: AtomicU64,
}

/// The pending headers of one connection. They count until this is dropped.
pub(super) struct PendingHeaders {
    budget: Arc<HeaderBudget>,
    slot: usize,
    counted: Cell<u64>,
}

impl HeaderBudget {
    /// A budget for all connections of a server.
    pub(super) fn new() -> Arc<Self> {
        Self::with_max(MAX_PENDING_HEADERS)
    }

    fn with_max(max: u64) -> Arc<Self> {
        Arc::new(Self { shares: FairBudget::new(max), all: AtomicU64::new(0) })
    }

    /// The headers of a new connection from this address.
    pub(super) fn connection(self: &Arc<Self>, address: IpAddr) -> PendingHeaders {
        let slot = self.shares.slot(client_network(address.to_canonical()));
        PendingHeaders { budget: self.clone(), slot, counted: Cell::default() }
    }
}

impl PendingHeaders {
    /// Records the number of bytes. Returns whether they fit; otherwise the last number remains.
    pub(super) fn set_len(&self, length: usize) -> bool {
        let length = if length <= MAX_UNCOUNTED_HEADERS { 0 } else { length as u64 };
        let HeaderBudget { shares, all } = &*self.budget;
        let counted = self.counted.get();
        if length > counted && !shares.add(all, self.slot, length - counted) {
            return false;
        }
        if length < counted {
            shares.remove(all, self.slot, counted - length);
        }
        self.counted.set(length);
        true
    }

    /// The bytes that count.
    #[cfg(test)]
    pub(super) fn counted(&self) -> u64 {
        self.counted.get()
    }

    /// Headers with a budget of their own.
    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        HeaderBudget::new().connection([192, 0, 2, 1].into())
    }
}

impl fmt::Debug for PendingHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PendingHeaders").field(&self.counted).finish()
    }
}

impl Drop for PendingHeaders {
    fn drop(&mut self) {
        self.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    const KIB: usize = 1024;

    #[test]
    fn an_address_leaves_as_much_free_as_it_holds() {
        let budget = HeaderBudget::with_max(96 * KIB as u64);
        let here: IpAddr = [192, 0, 2, 1].into();
        // An address with a counter of its own.
        let slot = |address: IpAddr| budget.shares.slot(client_network(address));
        let mut others = (2..=255).map(|last| IpAddr::from([192, 0, 2, last]));
        let there = others.find(|address| slot(*address) != slot(here)).unwrap();
        let open: Vec<_> = (0..3).map(|_| budget.connection(here)).collect();
        let fits: Vec<_> = open.iter().map(|headers| headers.set_len(20 * KIB)).collect();
        assert_eq!(fits, [true, true, false]);
        assert!(open[0].set_len(28 * KIB), "it grows up to the share");
        assert!(!open[1].set_len(21 * KIB));
        let other = budget.connection(there);
        assert!(other.set_len(24 * KIB));
        assert!(!other.set_len(25 * KIB));
        // Short headers do not count.
        assert!(open[2].set_len(MAX_UNCOUNTED_HEADERS));
        assert!(open[1].set_len(0));
        assert_eq!(budget.all.load(Ordering::Relaxed), 52 * KIB as u64);
        drop((open, other));
        assert_eq!(budget.all.load(Ordering::Relaxed), 0);
        assert!(budget.shares.is_unused());
    }
}
