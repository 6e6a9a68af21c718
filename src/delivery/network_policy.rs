//! The addresses that callbacks may go to.
//!
//! An app chooses its callback URL; only the operator decides which addresses this server may
//! reach. Link-local addresses and the metadata services of clouds are never reachable. The
//! resolver of the HTTP client checks each address that it returns ([`NetworkPolicy::check`]). So
//! the check is made on the address of the real connection, and a name that resolves to another
//! address the second time gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

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
#[error("callbacks may not go to {0} (delivery.allow_networks, delivery.deny_networks)")]
pub struct AddressDenied(pub IpAddr);

/// Metadata services of clouds, which give out credentials, besides link-local addresses.
const METADATA_ADDRESSES: [IpAddr; 6] = [
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Oracle Cloud.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // Azure's wire server.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // AWS, Google Cloud and Scaleway, by IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
];

impl NetworkPolicy {
    /// Checks whether a connection may be made to `address`.
    ///
    /// # Errors
    /// [`AddressDenied`] with the address.
    pub fn check(&self, address: IpAddr) -> Result<(), AddressDenied> {
        let effective = embedded_ipv4(address);
        let listed =
            |networks: &[IpNet]| networks.iter().any(|network| network.contains(&effective));
        let permitted = !is_always_denied(effective)
            && !listed(&self.deny)
            && (self.allow.is_empty() || listed(&self.allow));
        if permitted { Ok(()) } else { Err(AddressDenied(address)) }
    }
}

/// The IPv4 address inside an IPv6 address, if it has one: mapped (`::ffff:0:0/96`), compatible
/// (`::/96`), translated (`64:ff9b::/96`, `64:ff9b:1::/48`) or tunnelled (`2002::/16`).
fn embedded_ipv4(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if v6 == Ipv6Addr::LOCALHOST || v6 == Ipv6Addr::UNSPECIFIED {
        return address;
    }
    match v6.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => {
            IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
        }
        _ => address,
    }
}

fn is_always_denied(address: IpAddr) -> bool {
    let kind = match address {
        IpAddr::V4(v4) => {
            v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast()
        }
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast(),
    };
    kind || METADATA_ADDRESSES.contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_permitted(networks: &NetworkPolicy, address: &str) -> bool {
        networks.check(address.parse().unwrap()).is_ok()
    }

    #[test]
    fn internal_receivers_are_allowed_by_default() {
        let networks = NetworkPolicy::default();
        for address in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fd00::1", "93.184.216.34"] {
            assert!(is_permitted(&networks, address), "{address}");
        }
    }

    #[test]
    fn link_local_and_metadata_are_never_allowed() {
        let everything = NetworkPolicy {
            allow: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
            deny: Vec::new(),
        };
        for address in [
            "169.254.169.254",
            "169.254.1.1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:42::42",
            "2002:a9fe:a9fe::1",
            "64:ff9b:1::a9fe:a9fe",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
        ] {
            assert!(!is_permitted(&everything, address), "{address}");
            assert!(!is_permitted(&NetworkPolicy::default(), address), "{address}");
        }
    }

    #[test]
    fn operator_can_restrict_networks() {
        let networks = NetworkPolicy {
            allow: vec!["10.0.0.0/8".parse().unwrap()],
            deny: vec!["10.9.0.0/16".parse().unwrap()],
        };
        assert!(is_permitted(&networks, "10.1.2.3"));
        assert!(is_permitted(&networks, "::ffff:10.1.2.3"));
        for address in ["10.9.1.1", "127.0.0.1", "::1", "192.168.0.1", "::ffff:10.9.1.1"] {
            assert!(!is_permitted(&networks, address), "{address}");
        }
    }
}
