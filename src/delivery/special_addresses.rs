//! Addresses that never have a receiver. No setting permits them.
//!
//! The tables follow the IANA registries of special-purpose addresses for IPv4 and IPv6 (RFC 6890 and
//! its updates). Not listed are the networks in which internal receivers live: loopback, private
//! and unique local addresses, 100.64.0.0/10, and 198.18.0.0/15, which some local resolvers use. Added
//! are the services of clouds that give out credentials and are not link-local.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const CLOUD: &str = "a metadata service of a cloud";
const LINK_LOCAL: &str = "a link-local address";
const DOCUMENTATION: &str = "an address for documentation";
const PROTOCOL: &str = "an address for protocols";
const ANYCAST: &str = "an address of a public anycast service";
const MULTICAST: &str = "a multicast address";
const RESERVED: &str = "a reserved address";
const UNSPECIFIED: &str = "an address of no host";

const IPV4: [(Ipv4Net, &str); 14] = [
    (v4([0, 0, 0, 0], 8), UNSPECIFIED),
    (v4([169, 254, 0, 0], 16), LINK_LOCAL),
    // Also the metadata service of Oracle Cloud.
    (v4([192, 0, 0, 0], 24), PROTOCOL),
    (v4([192, 0, 2, 0], 24), DOCUMENTATION),
    (v4([192, 31, 196, 0], 24), ANYCAST),
    (v4([192, 52, 193, 0], 24), ANYCAST),
    (v4([192, 88, 99, 0], 24), ANYCAST),
    (v4([192, 175, 48, 0], 24), ANYCAST),
    (v4([198, 51, 100, 0], 24), DOCUMENTATION),
    (v4([203, 0, 113, 0], 24), DOCUMENTATION),
    (v4([224, 0, 0, 0], 4), MULTICAST),
    (v4([240, 0, 0, 0], 4), RESERVED),
    // Alibaba Cloud.
    (v4([100, 100, 100, 200], 32), CLOUD),
    // Azure's wire server.
    (v4([168, 63, 129, 16], 32), CLOUD),
];

/// The parts of [`HOSTS_V6`] that are no receivers.
const IPV6: [(Ipv6Net, &str); 9] = [
    // Teredo, benchmarks, ORCHID and others.
    (v6([0x2001, 0, 0], 23), PROTOCOL),
    (v6([0x2001, 0xdb8, 0], 32), DOCUMENTATION),
    (v6([0x2620, 0x4f, 0x8000], 48), ANYCAST),
    (v6([0x3fff, 0, 0], 20), DOCUMENTATION),
    // AWS: credentials of instances and of containers, names, time.
    (v6([0xfd00, 0xec2, 0], 32), CLOUD),
    // Google Cloud.
    (v6([0xfd20, 0xce, 0], 32), CLOUD),
    // Scaleway.
    (v6([0xfd00, 0x42, 0], 32), CLOUD),
    // Oracle Cloud.
    (v6([0xfd00, 0xc1, 0], 32), CLOUD),
    // Akamai (Linode).
    (v6([0xfd00, 0xa9fe, 0xa9fe], 48), CLOUD),
];

/// The networks of IPv6 that have hosts: loopback, unique local and global unicast addresses.
const HOSTS_V6: [Ipv6Net; 3] =
    [Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), v6([0xfc00, 0, 0], 7), v6([0x2000, 0, 0], 3)];

/// Metadata services, which an IPv6 address may contain in its last bytes behind any prefix that a
/// network translates to IPv4.
const METADATA_V4: [Ipv4Addr; 7] = [
    Ipv4Addr::new(169, 254, 169, 254),
    // Containers on AWS.
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    // Tencent Cloud.
    Ipv4Addr::new(169, 254, 0, 23),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b, c]: [u16; 3], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// The special use of an address at which there is no receiver, with an article.
pub(super) fn special_use(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => named(IPV4.iter().find(|(network, _)| network.contains(&address))),
        IpAddr::V6(address) if address.is_unspecified() => Some(UNSPECIFIED),
        IpAddr::V6(address) if address.is_unicast_link_local() => Some(LINK_LOCAL),
        IpAddr::V6(address) if address.is_multicast() => Some(MULTICAST),
        IpAddr::V6(address) if !HOSTS_V6.iter().any(|network| network.contains(&address)) => {
            Some(RESERVED)
        }
        IpAddr::V6(address) if METADATA_V4.contains(&last_bytes(address)) => Some(CLOUD),
        IpAddr::V6(address) => named(IPV6.iter().find(|(network, _)| network.contains(&address))),
    }
}

fn named<N>(entry: Option<&(N, &'static str)>) -> Option<&'static str> {
    entry.map(|(_, special_use)| *special_use)
}

fn last_bytes(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

/// The addresses that a packet to `address` may reach: usually itself; an IPv4 address if the
/// address contains one by a standard. Never empty.
pub(super) fn destinations(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = address else { return vec![address] };
    if v6.is_loopback() || v6.is_unspecified() {
        return vec![address];
    }
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        // Compatible and mapped (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052), 6to4 (RFC 3056).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => vec![embedded(high, low)],
        [0x64, 0xff9b, 1, ..] => local_nat64(v6),
        // ISATAP (RFC 5214), behind any prefix.
        [.., 0 | 0x200, 0x5efe, high, low] => vec![address, embedded(high, low)],
        _ => vec![address],
    }
}

/// The destinations of an address of the local-use NAT64 prefix (RFC 8215). The operator of the
/// network chose a longer prefix in it, which decides where the IPv4 address stands (RFC 6052).
fn local_nat64(address: Ipv6Addr) -> Vec<IpAddr> {
    let octets = address.octets();
    let positions = [[12, 13, 14, 15], [6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12]];
    let mut found: Vec<IpAddr> = positions
        .map(|position| position.map(|at| octets[at]))
        .into_iter()
        // The bytes around the embedded address are 0.
        .filter(|[first, ..]| *first != 0)
        .map(IpAddr::from)
        .collect();
    if found.is_empty() {
        found.push(Ipv4Addr::UNSPECIFIED.into());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_special(address: &str) -> bool {
        destinations(address.parse().unwrap()).into_iter().any(|to| special_use(to).is_some())
    }

    #[test]
    fn registries_of_special_addresses_are_covered() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.0.0",
            "169.254.255.255",
            "192.0.0.0",
            "192.0.0.8",
            "192.0.0.170",
            "192.0.0.255",
            "192.0.2.1",
            "192.31.196.1",
            "192.52.193.1",
            "192.88.99.1",
            "192.175.48.6",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "100::1",
            "100:0:0:1::1",
            "2001::1",
            "2001:1::1",
            "2001:2::1",
            "2001:3::1",
            "2001:4:112::1",
            "2001:10::1",
            "2001:20::1",
            "2001:30::1",
            "2001:db8::1",
            "2620:4f:8000::1",
            "3fff::1",
            "3fff:fff::1",
            "5f00::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
            "e000::1",
        ] {
            assert!(is_special(address), "{address}");
        }
    }

    #[test]
    fn metadata_services_are_special() {
        for address in [
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd00:ec2::253",
            "fd20:ce::254",
            "fd00:42::42",
            "fd00:c1::a9fe:a9fe",
            "fd00:a9fe:a9fe::1",
            // Behind a prefix of NAT64 that the operator of a network chose.
            "2606:4700:64::a9fe:a9fe",
            "fd12:3456:789a::6464:64c8",
        ] {
            assert!(is_special(address), "{address}");
        }
    }

    #[test]
    fn no_form_of_ipv6_hides_an_address() {
        for address in [
            "::169.254.1.1",
            "::ffff:169.254.1.1",
            "::ffff:0:169.254.1.1",
            "::ffff:0:100.100.100.200",
            "64:ff9b::169.254.1.1",
            "64:ff9b:1::169.254.1.1",
            "64:ff9b:1:a9fe:1:100::",
            "64:ff9b:1:a9:fe:101::",
            "64:ff9b:1:0:a9:fe01:100:0",
            "64:ff9b:1::",
            "2002:a9fe:101::1",
            "2001:0:7f00:1::5601:fefe",
            "2606:4700::5efe:169.254.1.1",
            "fd00::200:5efe:169.254.1.1",
        ] {
            assert!(is_special(address), "{address}");
        }
    }

    #[test]
    fn addresses_of_hosts_are_not_special() {
        for address in [
            "1.0.0.1",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "172.31.255.255",
            "192.0.1.1",
            "192.168.0.1",
            "198.18.0.1",
            "223.255.255.255",
            "::1",
            "::ffff:10.1.2.3",
            "64:ff9b::10.1.2.3",
            "64:ff9b:1::10.1.2.3",
            "2002:a01:203::1",
            "2001:200::1",
            "2400:3200::1",
            "2606:4700::5efe:10.1.2.3",
            "fd00::1",
            "fdff::a9fe:a9ff",
        ] {
            assert!(!is_special(address), "{address}");
        }
    }
}
