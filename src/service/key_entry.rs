//! An API key as requests need it: its app, its limits, and its last use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use ipnet::IpNet;

use super::AuthError;
use super::app_context::AppContext;
use crate::domain::Permissions;
use crate::repository::keys::KeyRestrictions;

/// The upper half of the number of an IPv4 address: that of a network which no client has.
const IPV4_MARK: u64 = 0xFFFF;

/// An API key that is not revoked. It may have expired.
pub(super) struct KeyEntry {
    pub(super) app_context: Arc<AppContext>,
    /// The permissions of the key within those of the app.
    pub(super) permissions: Permissions,
    pub(super) expires_at: Option<DateTime<Utc>>,
    networks: Box<[IpNet]>,
    pub(super) last_use: LastUse,
}

impl KeyEntry {
    pub(super) fn new(app_context: Arc<AppContext>, restrictions: KeyRestrictions) -> Self {
        let KeyRestrictions { expires_at, permissions, networks } = restrictions;
        let of_app = app_context.app.permissions;
        let permissions = permissions.map_or(of_app, |own| own.intersection(of_app));
        let (networks, last_use) = (networks.into_boxed_slice(), LastUse::default());
        Self { app_context, permissions, expires_at, networks, last_use }
    }

    /// Checks the address of the client, and records the use.
    pub(super) fn admit(&self, client: IpAddr) -> Result<(), AuthError> {
        let is_permitted = self.networks.is_empty()
            || self.networks.iter().any(|network| network.contains(&client));
        if !is_permitted {
            return Err(AuthError::ForeignNetwork);
        }
        self.last_use.record(client);
        Ok(())
    }
}

/// The client of the last use since the last report: an IPv4 address, or a /64 of IPv6. One number, so
/// that a request takes no lock; 0 is no use.
#[derive(Debug, Default)]
pub(super) struct LastUse(AtomicU64);

impl LastUse {
    fn record(&self, client: IpAddr) {
        let number = match client {
            IpAddr::V4(address) => IPV4_MARK << 32 | u64::from(u32::from(address)),
            IpAddr::V6(address) => u64::try_from(u128::from(address) >> 64).unwrap_or(0).max(1),
        };
        self.set(number);
    }

    fn set(&self, number: u64) {
        // Most requests of a key come from one client, and need not write.
        if self.0.load(Ordering::Relaxed) != number {
            self.0.store(number, Ordering::Relaxed);
        }
    }

    /// Takes the use over that another entry of the key has not reported.
    pub(super) fn inherit(&self, other: &Self) {
        match other.0.load(Ordering::Relaxed) {
            0 => {}
            number => self.set(number),
        }
    }

    /// The client of the last use, and forgets it.
    pub(super) fn take(&self) -> Option<IpNet> {
        match self.0.swap(0, Ordering::Relaxed) {
            0 => None,
            number if number >> 32 == IPV4_MARK => {
                let address = u32::try_from(number & 0xFFFF_FFFF).unwrap_or_default();
                Some(IpAddr::V4(Ipv4Addr::from(address)).into())
            }
            number => {
                let prefix = Ipv6Addr::from(u128::from(number) << 64);
                // The length is valid.
                IpNet::new(prefix.into(), 64).ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_use_keeps_the_client() {
        let last_use = LastUse::default();
        assert_eq!(last_use.take(), None);
        for (client, network) in [
            ("203.0.113.9", "203.0.113.9/32"),
            ("0.0.0.0", "0.0.0.0/32"),
            ("255.255.255.255", "255.255.255.255/32"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("fe80::1", "fe80::/64"),
        ] {
            last_use.record(client.parse().unwrap());
            assert_eq!(last_use.take(), Some(network.parse().unwrap()), "{client}");
            assert_eq!(last_use.take(), None, "it is reported once");
        }
        // Loopback has the network 0, which would be no use.
        last_use.record("::1".parse().unwrap());
        assert!(last_use.take().is_some());
    }

    #[test]
    fn unreported_use_is_inherited() {
        let (old, new) = (LastUse::default(), LastUse::default());
        new.inherit(&old);
        assert_eq!(new.take(), None);
        old.record("203.0.113.9".parse().unwrap());
        new.inherit(&old);
        assert_eq!(new.take(), Some("203.0.113.9/32".parse().unwrap()));
    }
}
