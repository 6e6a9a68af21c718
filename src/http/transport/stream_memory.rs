//! Bounds the memory of the open HTTP/2 requests of all connections.
//!
//! A client opens a request with a few bytes: headers are compressed, and a response waits in the server
//! if the client has no window for it. So each request counts from its header section until its response
//! has been written to the socket, with its headers and with a response that waits. The memory of large
//! responses is counted elsewhere.
//!
//! Requests without a credential share one part of the memory, and the enterprises share another one. Each
//! address and each enterprise has at most as much as remains free in its part. A request starts with
//! its address, unless its connection is known to belong to an enterprise. Its valid credential moves it
//! to the enterprise.
//!
//! One request of each connection does not count if its headers are short: a connection over HTTP/1 takes as
//! much. So a caller with a credential can always begin, and requests that come one after another change no
//! number that threads share.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::domain::Buin;
use crate::http::shared::fair_budget::FairBudget;
use crate::http::shared::network::client_network;
use crate::metrics::Metrics;

/// The memory of an open request besides its headers and its response, in bytes.
const STREAM_BYTES: u64 = 16 * 1024;
/// The bytes that each header takes besides its name and value (RFC 9113, 6.5.2).
const HEADER_BYTES: usize = 32;
/// The headers of the request of a connection that does not count, in bytes.
const MAX_UNCOUNTED_STREAM_HEADERS: u64 = 4 * 1024;
/// The bytes of all open requests without a credential.
const MAX_ANONYMOUS_STREAMS: u64 = 64 * 1024 * 1024;
/// The bytes of all open requests of enterprises.
const MAX_ENTERPRISE_STREAMS: u64 = 128 * 1024 * 1024;

/// The memory for the open requests of all connections.
pub(super) struct StreamBudget {
    anonymous: MemoryPool,
    enterprises: MemoryPool,
    metrics: Arc<Metrics>,
}

/// A part of the memory.
struct MemoryPool {
    shares: FairBudget,
    held: AtomicU64,
}

/// The open requests of one connection.
pub(super) struct ConnectionStreams {
    budget: Arc<StreamBudget>,
    /// The counter of the address.
    address: usize,
    /// Whether a request that does not count is open.
    has_uncounted: Cell<bool>,
    /// The requests whose responses are complete, and may not be written to the socket.
    unwritten: RefCell<Vec<Charge>>,
}

/// The memory of one request. It counts until this is dropped, or until the response is written.
pub(super) struct StreamMemory {
    connection: Rc<ConnectionStreams>,
    charge: Cell<Charge>,
    /// The bytes of the charge that are for a response.
    response: Cell<u64>,
}

/// Bytes of an owner.
#[derive(Clone, Copy)]
struct Charge {
    owner: StreamOwner,
    bytes: u64,
}

/// The owner of a request, by its counter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamOwner {
    /// The request belongs to a connection that does not count, so it has no owner.
    Uncounted,
    Address(usize),
    Enterprise(usize),
}

impl MemoryPool {
    fn new(max: u64) -> Self {
        Self { shares: FairBudget::new(max), held: AtomicU64::new(0) }
    }
}

impl StreamBudget {
    /// A budget for all connections of a server, which counts refused requests in `metrics`.
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Self::with_max(MAX_ANONYMOUS_STREAMS, MAX_ENTERPRISE_STREAMS, metrics)
    }

    fn with_max(anonymous: u64, enterprises: u64, metrics: Arc<Metrics>) -> Arc<Self> {
        let (anonymous, enterprises) = (MemoryPool::new(anonymous), MemoryPool::new(enterprises));
        Arc::new(Self { anonymous, enterprises, metrics })
    }

    /// The requests of a new connection from this address.
    pub(super) fn connection(self: &Arc<Self>, address: IpAddr) -> Rc<ConnectionStreams> {
        let address = self.anonymous.shares.slot(client_network(address.to_canonical()));
        Rc::new(ConnectionStreams {
            budget: self.clone(),
            address,
            has_uncounted: Cell::default(),
            unwritten: RefCell::default(),
        })
    }

    fn add(&self, owner: StreamOwner, bytes: u64) -> bool {
        self.pool(owner)
            .is_none_or(|(MemoryPool { shares, held }, slot)| shares.add(held, slot, bytes))
    }

    fn remove(&self, Charge { owner, bytes }: Charge) {
        if let Some((MemoryPool { shares, held }, slot)) = self.pool(owner) {
            shares.remove(held, slot, bytes);
        }
    }

    fn pool(&self, owner: StreamOwner) -> Option<(&MemoryPool, usize)> {
        match owner {
            StreamOwner::Uncounted => None,
            StreamOwner::Address(slot) => Some((&self.anonymous, slot)),
            StreamOwner::Enterprise(slot) => Some((&self.enterprises, slot)),
        }
    }

    /// Counts a request that does not fit. Returns `fits`.
    fn record(&self, fits: bool) -> bool {
        if !fits {
            self.metrics.connections.rejected_streams.inc();
        }
        fits
    }

    fn enterprise(&self, buin: Buin) -> StreamOwner {
        StreamOwner::Enterprise(self.enterprises.shares.slot(buin))
    }
}

impl ConnectionStreams {
    /// Counts a new request. `enterprise` is the one that the connection belongs to, if any. `None` if the
    /// request does not fit.
    pub(super) fn open(
        self: &Rc<Self>,
        headers: &http::HeaderMap,
        enterprise: Option<Buin>,
    ) -> Option<StreamMemory> {
        let header_bytes = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            name.as_str().len() + value.len() + HEADER_BYTES
        };
        let headers = headers.iter().map(header_bytes).sum::<usize>() as u64;
        let bytes = STREAM_BYTES + headers;
        let owner = if headers <= MAX_UNCOUNTED_STREAM_HEADERS && !self.has_uncounted.replace(true)
        {
            Some(StreamOwner::Uncounted)
        } else {
            let known = enterprise.map(|buin| self.budget.enterprise(buin));
            let mut owners = known.into_iter().chain([StreamOwner::Address(self.address)]);
            owners.find(|owner| self.budget.add(*owner, bytes))
        };
        self.budget.record(owner.is_some());
        let charge = Cell::new(Charge { owner: owner?, bytes });
        Some(StreamMemory { connection: self.clone(), charge, response: Cell::default() })
    }

    fn release(&self, charge: Charge) {
        match charge.owner {
            StreamOwner::Uncounted if charge.bytes > 0 => self.has_uncounted.set(false),
            _ => self.budget.remove(charge),
        }
    }

    /// Records that the socket has all bytes of complete responses.
    pub(super) fn on_written(&self) {
        self.unwritten.borrow_mut().drain(..).for_each(|charge| self.release(charge));
    }
}

impl Drop for ConnectionStreams {
    fn drop(&mut self) {
        self.on_written();
    }
}

impl StreamMemory {
    /// Counts the request for the enterprise of its credential. Returns whether it fits; otherwise nothing
    /// changes.
    pub(super) fn move_to(&self, buin: Buin) -> bool {
        let budget = &self.connection.budget;
        let (old, owner) = (self.charge.get(), budget.enterprise(buin));
        if old.owner == owner || old.owner == StreamOwner::Uncounted {
            return true;
        }
        let fits = budget.record(budget.add(owner, old.bytes));
        if fits {
            budget.remove(old);
            self.charge.set(Charge { owner, ..old });
        }
        fits
    }

    /// Counts a part of a response that waits for its client, instead of earlier ones. Returns whether it
    /// fits; otherwise nothing changes.
    pub(super) fn hold_response(&self, bytes: usize) -> bool {
        let (charge, bytes) = (self.charge.get(), bytes as u64);
        let more = bytes.saturating_sub(self.response.get());
        let budget = &self.connection.budget;
        let fits = more == 0 || budget.record(budget.add(charge.owner, more));
        if fits && more > 0 {
            self.response.set(bytes);
            self.charge.set(Charge { bytes: charge.bytes + more, ..charge });
        }
        fits
    }

    /// Records that the response is complete. It counts until it is written.
    pub(super) fn finish(&self) {
        let charge = self.charge.get();
        self.charge.set(Charge { bytes: 0, ..charge });
        self.connection.unwritten.borrow_mut().push(charge);
    }

    /// A request with a budget of its own.
    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        let connection = StreamBudget::new(Arc::default()).connection([192, 0, 2, 1].into());
        connection.open(&http::HeaderMap::new(), None).unwrap_or_else(|| unreachable!())
    }
}

impl fmt::Debug for StreamMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamMemory").field(&self.charge.get().bytes).finish()
    }
}

impl Drop for StreamMemory {
    fn drop(&mut self) {
        self.connection.release(self.charge.get());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    fn held(budget: &StreamBudget) -> [u64; 2] {
        [&budget.anonymous, &budget.enterprises].map(|pool| pool.held.load(Ordering::Relaxed))
    }

    /// Opens as many requests as fit.
    fn open_all(connection: &Rc<ConnectionStreams>, buin: Option<Buin>) -> Vec<StreamMemory> {
        let headers = http::HeaderMap::new();
        std::iter::from_fn(|| connection.open(&headers, buin)).collect()
    }

    /// Two addresses, and two enterprises, with counters of their own.
    fn owners(budget: &Arc<StreamBudget>) -> ([Rc<ConnectionStreams>; 2], [Buin; 2]) {
        let connection = |last| budget.connection([192, 0, 2, last].into());
        let here = connection(1);
        let there = (2..=255).map(connection).find(|other| other.address != here.address).unwrap();
        let buin = |number| Buin::new(number).unwrap();
        let differs = |other: &Buin| budget.enterprise(*other) != budget.enterprise(buin(1));
        let other = (2..).map(buin).find(differs).unwrap();
        ([here, there], [buin(1), other])
    }

    #[test]
    fn owner_holds_at_most_as_much_as_remains_free() {
        let budget = StreamBudget::with_max(12 * STREAM_BYTES, 12 * STREAM_BYTES, Arc::default());
        let ([here, there], [one, two]) = owners(&budget);
        let _uncounted = [&here, &there].map(uncounted);
        let first = open_all(&here, None);
        let second = open_all(&there, None);
        assert_eq!((first.len(), second.len()), (6, 3));
        // With a credential, they leave the room of anonymous callers, as far as the enterprise has any.
        assert!(first.iter().all(|memory| memory.move_to(one)));
        assert_eq!(held(&budget), [3 * STREAM_BYTES, 6 * STREAM_BYTES]);
        assert!(!second[0].move_to(one) && second[0].move_to(two));
        // A connection of an enterprise without room counts for its address.
        assert_eq!(open_all(&here, Some(one)).len(), 5);
        drop((first, second));
        assert_eq!(held(&budget), [0, 0]);
        assert!(budget.anonymous.shares.is_unused() && budget.enterprises.shares.is_unused());
        assert!(budget.metrics.connections.rejected_streams.value() > 0);
    }

    /// Opens the request of a connection that does not count.
    fn uncounted(connection: &Rc<ConnectionStreams>) -> StreamMemory {
        let memory = connection.open(&http::HeaderMap::new(), None).unwrap();
        assert!(memory.charge.get().owner == StreamOwner::Uncounted);
        memory
    }

    #[test]
    fn headers_and_waiting_responses_count() {
        let budget = StreamBudget::with_max(8 * STREAM_BYTES, 0, Arc::default());
        let ([here, _], _) = owners(&budget);
        let first = uncounted(&here);
        let mut headers = http::HeaderMap::new();
        for _ in 0..3 {
            headers.append("x-a", http::HeaderValue::from_static("1234567"));
        }
        let memory = here.open(&headers, None).unwrap();
        let request = STREAM_BYTES + 3 * 42;
        assert_eq!(held(&budget), [request, 0]);
        assert!(memory.hold_response(500) && memory.hold_response(300));
        assert_eq!(held(&budget), [request + 500, 0]);
        let others = open_all(&here, None);
        assert!(!memory.hold_response(STREAM_BYTES as usize));
        drop(others);
        assert!(memory.hold_response(STREAM_BYTES as usize));
        // A complete response counts until the socket has it.
        memory.finish();
        drop(memory);
        assert_eq!(held(&budget), [request + STREAM_BYTES, 0]);
        here.on_written();
        assert_eq!(held(&budget), [0, 0]);
        here.open(&headers, None).unwrap().finish();
        drop((first, here));
        assert_eq!(held(&budget), [0, 0], "the connection has ended");
    }

    #[test]
    fn one_short_request_of_a_connection_does_not_count() {
        let budget = StreamBudget::with_max(0, 0, Arc::default());
        let ([here, there], [one, _]) = owners(&budget);
        let first = uncounted(&here);
        assert!(first.move_to(one) && first.hold_response(16 * 1024));
        assert!(here.open(&http::HeaderMap::new(), None).is_none());
        drop(uncounted(&there));
        // The next one begins when the response has been written.
        first.finish();
        drop(first);
        assert!(here.open(&http::HeaderMap::new(), None).is_none());
        here.on_written();
        drop(uncounted(&here));
        let mut long = http::HeaderMap::new();
        long.append("x-a", "a".repeat(4_096).parse().unwrap());
        assert!(here.open(&long, None).is_none());
        drop(uncounted(&here));
    }
}
