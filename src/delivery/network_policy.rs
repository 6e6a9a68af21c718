//! The addresses that callbacks may go to.
//!
//! An app chooses its callback URL; only the operator decides which addresses this server may
//! reach. Addresses of no host, link-local addresses and the metadata services of clouds are never
//! reachable: see [`super::special_addresses`]. The resolver of the HTTP client checks each address
//! that it returns ([`NetworkPolicy::check`]). So the check is made on the address of the real
//! connection, and a name that resolves to another address the second time gains nothing.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::special_addresses::{destinations, special_use};

/// The addresses that may be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Only these networks are permitted, if there are any.
    pub allow: Vec<IpNet>,
    /// These networks are never permitted, even if they are in `allow`.
    pub deny: Vec<IpNet>,
}

/// An address that callbacks may not go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("callbacks may not go to {address}: {reason}")]
pub struct AddressDenied {
    /// The address.
    pub address: IpAddr,
    /// The reason.
    pub reason: DenialReason,
}

/// The reason why callbacks may not go to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenialReason {
    /// No setting permits the address, because of its special use.
    SpecialUse(&'static str),
    /// The setting `delivery.deny_networks` contains the address.
    Denied,
    /// The setting `delivery.allow_networks` does not contain the address.
    NotAllowed,
}

impl fmt::Display for DenialReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SpecialUse(special_use) => write!(f, "{special_use} is never permitted"),
            Self::Denied => f.write_str("delivery.deny_networks contains it"),
            Self::NotAllowed => f.write_str("delivery.allow_networks does not contain it"),
        }
    }
}

impl NetworkPolicy {
    /// Checks whether a connection may be made to `address`. An address of IPv6 that contains one
    /// of IPv4 is treated like the latter.
    ///
    /// # Errors
    /// [`AddressDenied`] with the address and the reason.
    pub fn check(&self, address: IpAddr) -> Result<(), AddressDenied> {
        let denied = |reason| Err(AddressDenied { address, reason });
        let destinations = destinations(address);
        if let Some(special_use) = destinations.iter().find_map(|address| special_use(*address)) {
            return denied(DenialReason::SpecialUse(special_use));
        }
        let is_in = |networks: &[IpNet], address: &IpAddr| {
            networks.iter().any(|network| network.contains(address))
        };
        let mut forms = destinations.iter().chain([&address]);
        if forms.any(|address| is_in(&self.deny, address)) {
            return denied(DenialReason::Denied);
        }
        let allowed = || destinations.iter().all(|address| is_in(&self.allow, address));
        if self.allow.is_empty() || allowed() { Ok(()) } else { denied(DenialReason::NotAllowed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn reason(policy: &NetworkPolicy, address: &str) -> Option<DenialReason> {
        policy.check(address.parse().unwrap()).err().map(|denied| denied.reason)
    }

    #[test]
    fn internal_receivers_are_allowed_by_default() {
        let policy = NetworkPolicy::default();
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            // Carrier-grade NAT, and the range of which some local resolvers make addresses.
            "100.64.0.1",
            "198.18.0.1",
            "93.184.216.34",
            "::1",
            "fc00::1",
            "fd00::1",
            "2606:2800:220:1::1",
        ] {
            assert_eq!(reason(&policy, address), None, "{address}");
        }
    }

    #[test]
    fn special_addresses_are_never_allowed() {
        let everything = NetworkPolicy { allow: networks(&["0.0.0.0/0", "::/0"]), deny: vec![] };
        for address in ["169.254.169.254", "fe80::1", "0.0.0.0", "::", "::ffff:169.254.1.1"] {
            for policy in [&everything, &NetworkPolicy::default()] {
                let reason = reason(policy, address);
                assert!(matches!(reason, Some(DenialReason::SpecialUse(_))), "{address}");
            }
        }
    }

    #[test]
    fn operator_can_restrict_networks() {
        let policy = NetworkPolicy {
            allow: networks(&["10.0.0.0/8", "2606:2800::/32"]),
            deny: networks(&["10.9.0.0/16"]),
        };
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2606:2800::1"] {
            assert_eq!(reason(&policy, address), None, "{address}");
        }
        for address in ["10.9.1.1", "::ffff:10.9.1.1", "::ffff:0:10.9.1.1", "64:ff9b::a09:101"] {
            assert_eq!(reason(&policy, address), Some(DenialReason::Denied), "{address}");
        }
        for address in ["127.0.0.1", "::1", "192.168.0.1", "::ffff:127.0.0.1", "2607::1"] {
            assert_eq!(reason(&policy, address), Some(DenialReason::NotAllowed), "{address}");
        }
        // A form of IPv6 is no way around a list for IPv4, nor around one for IPv6.
        let policy = NetworkPolicy { allow: networks(&["::/0"]), deny: vec![] };
        assert_eq!(reason(&policy, "::ffff:10.1.2.3"), Some(DenialReason::NotAllowed));
        let policy = NetworkPolicy { allow: vec![], deny: networks(&["64:ff9b::/96"]) };
        assert_eq!(reason(&policy, "64:ff9b::a01:203"), Some(DenialReason::Denied));
    }

    #[test]
    fn error_names_address_and_reason() {
        let policy =
            NetworkPolicy { allow: networks(&["10.0.0.0/8"]), deny: networks(&["10.9.0.0/16"]) };
        for (address, text) in [
            ("169.254.169.254", "169.254.169.254: a link-local address is never permitted"),
            ("10.9.1.1", "10.9.1.1: delivery.deny_networks contains it"),
            ("127.0.0.1", "127.0.0.1: delivery.allow_networks does not contain it"),
        ] {
            let denied = policy.check(address.parse().unwrap()).unwrap_err();
            assert_eq!(denied.to_string(), format!("callbacks may not go to {text}"));
        }
    }
}
