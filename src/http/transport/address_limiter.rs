//! The number of open connections of each client address. An IPv6 customer has a /64 network, which
//! counts as one address.
//!
//! The addresses of trusted proxies do not count: each carries the connections of many clients. The
//! lock is taken when a connection opens and when it ends, not for requests.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use crate::http::shared::network::client_network;

/// Limits the open connections of each client address.
#[derive(Debug)]
pub(super) struct AddressLimiter {
    max: usize,
    exempt: Arc<[IpNet]>,
    /// Only addresses with open connections are here, so the connections bound the memory.
    open: Mutex<HashMap<IpNet, usize>>,
}

/// Counts a connection of an address until it is dropped.
#[derive(Debug)]
pub(super) struct AddressSlot<'a> {
    limiter: &'a AddressLimiter,
    /// `None` if the address does not count.
    network: Option<IpNet>,
}

impl AddressLimiter {
    /// An address may have `max` connections, unless it is in a network of `exempt`.
    pub(super) fn new(max: usize, exempt: Arc<[IpNet]>) -> Self {
        Self { max, exempt, open: Mutex::default() }
    }

    /// Counts a connection; `None` if its address has too many.
    pub(super) fn acquire(&self, address: IpAddr) -> Option<AddressSlot<'_>> {
        let address = address.to_canonical();
        if self.exempt.iter().any(|network| network.contains(&address)) {
            return Some(AddressSlot { limiter: self, network: None });
        }
        let network = client_network(address);
        self.with(|open| {
            let count = open.entry(network).or_default();
            if *count >= self.max {
                return None;
            }
            *count += 1;
            Some(AddressSlot { limiter: self, network: Some(network) })
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<IpNet, usize>) -> T) -> T {
        // No code panics while it holds the lock.
        work(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for AddressSlot<'_> {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        self.limiter.with(|open| {
            if let Some(count) = open.get_mut(&network) {
                *count -= 1;
                if *count == 0 {
                    open.remove(&network);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(max: usize) -> AddressLimiter {
        let proxies = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        AddressLimiter::new(max, proxies.into())
    }

    #[test]
    fn connections_of_an_address_are_limited() {
        let limiter = limiter(2);
        for (one, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"),
        ] {
            let [one, same, other] = [one, same, other].map(|address| address.parse().unwrap());
            let first = limiter.acquire(one);
            let second = limiter.acquire(same);
            assert!(first.is_some() && second.is_some());
            assert!(limiter.acquire(one).is_none() && limiter.acquire(same).is_none(), "{one}");
            assert!(limiter.acquire(other).is_some());
            drop(second);
            assert!(limiter.acquire(one).is_some());
        }
        assert!(limiter.open.lock().unwrap().is_empty(), "nothing is left of closed connections");
    }

    #[test]
    fn trusted_proxies_do_not_count() {
        let limiter = limiter(1);
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1"] {
            let open: Vec<_> = (0..9).map(|_| limiter.acquire(address.parse().unwrap())).collect();
            assert!(open.iter().all(Option::is_some), "{address}");
        }
    }
}
