//! The address of the client of a request, behind proxies or not.
//!
//! `X-Forwarded-For` is trusted only as far as trusted proxies wrote it. The header is read from
//! the right: the first address that is not a trusted proxy is the client. The client can forge
//! everything left of that address. `Forwarded` (RFC 7239) is not read: a proxy that writes one of
//! the two headers passes on the other unchanged.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use actix_web::dev::ServiceRequest;
use ipnet::IpNet;

use crate::http::shared::network::client_network;

/// Finds the addresses of clients. Clones share the trusted proxies.
#[derive(Clone, Debug)]
pub(crate) struct ClientIpResolver {
    trusted: Arc<[IpNet]>,
}

impl ClientIpResolver {
    /// A resolver that trusts `X-Forwarded-For` of these proxies.
    pub(crate) fn new(trusted: &[IpNet]) -> Self {
        Self { trusted: trusted.into() }
    }

    /// The networks of the trusted proxies.
    pub(crate) fn trusted_proxies(&self) -> &Arc<[IpNet]> {
        &self.trusted
    }

    /// The client of `request`.
    pub(crate) fn resolve(&self, request: &ServiceRequest) -> ClientIp {
        let remote = request.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip());
        if self.trusted.is_empty() {
            return ClientIp(IpAddr::to_canonical(&remote));
        }
        let forwarded: Vec<&str> = request
            .headers()
            .get_all("x-forwarded-for")
            // A value that is not text cannot be an address.
            .map(|value| value.to_str().unwrap_or_default())
            .collect();
        ClientIp::resolve(remote, forwarded.into_iter(), &self.trusted)
    }
}

/// The address of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientIp(pub(crate) IpAddr);

impl ClientIp {
    /// The client of a connection from `remote`. `forwarded` holds the values of `X-Forwarded-For`
    /// in their order. Reading stops at an entry that is not an address, because its writer is
    /// unknown.
    pub(crate) fn resolve<'a>(
        remote: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a str>,
        trusted: &[IpNet],
    ) -> Self {
        let is_trusted = |ip: &IpAddr| trusted.iter().any(|network| network.contains(ip));
        let mut client = remote.to_canonical();
        for entry in forwarded.rev().flat_map(|value| value.rsplit(',')) {
            if !is_trusted(&client) {
                break;
            }
            let Some(previous_hop) = parse_address(entry) else { break };
            client = previous_hop;
        }
        Self(client)
    }

    /// The network that counts as one caller: an IPv4 address, or the /64 network of an IPv6
    /// customer.
    pub(crate) fn rate_limit_prefix(self) -> IpNet {
        client_network(self.0)
    }
}

/// Parses an address, with or without a port; IPv6 with or without brackets.
fn parse_address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = || entry.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    let with_port = || entry.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let ip = entry.parse::<IpAddr>().ok().or_else(bare).or_else(with_port)?;
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(remote: &str, forwarded: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        ClientIp::resolve(remote.parse().unwrap(), forwarded.iter().copied(), &trusted)
            .0
            .to_string()
    }

    #[test]
    fn forwarded_header_is_read_up_to_the_first_untrusted_proxy() {
        for (remote, forwarded, expected) in [
            // No trusted proxy, or no header.
            ("9.9.9.9", &[][..], "9.9.9.9"),
            ("9.9.9.9", &["1.1.1.1"], "9.9.9.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            // One proxy, two proxies, forged entries.
            ("10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["1.1.1.1, 10.0.0.2"], "1.1.1.1"),
            ("10.0.0.1", &["1.1.1.1", "10.0.0.2"], "1.1.1.1"),
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1,10.0.0.2"], "1.1.1.1"),
            ("10.0.0.1", &["6.6.6.6", "1.1.1.1"], "1.1.1.1"),
            // A client in a trusted network.
            ("10.0.0.1", &["10.0.0.7"], "10.0.0.7"),
            // Ports, brackets, IPv4 in IPv6.
            ("10.0.0.1", &["1.1.1.1:4711"], "1.1.1.1"),
            ("fd00::1", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("fd00::1", &[" 2001:db8::1 "], "2001:db8::1"),
            ("fd00::1", &["[2001:db8::1]"], "2001:db8::1"),
            ("::ffff:10.0.0.1", &["::ffff:1.1.1.1"], "1.1.1.1"),
            // Reading stops at an entry that is not an address.
            ("10.0.0.1", &["1.1.1.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1, _hidden, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["1.1.1.1,"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.999"], "10.0.0.1"),
        ] {
            assert_eq!(client(remote, forwarded), expected, "{remote} {forwarded:?}");
        }
    }

    #[test]
    fn ipv6_prefix_of_64_bits_is_one_client() {
        let network = |ip: &str| ClientIp(ip.parse().unwrap()).rate_limit_prefix().to_string();
        assert_eq!(network("1.2.3.4"), "1.2.3.4/32");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    }

    proptest! {
        #[test]
        fn untrusted_client_cannot_choose_its_address(forged in ".*", last in any::<[u8; 4]>()) {
            let outside = IpAddr::from(last);
            let trusted: [IpNet; 1] = ["10.0.0.0/8".parse().unwrap()];
            prop_assume!(!trusted[0].contains(&outside));
            let direct = ClientIp::resolve(outside, [forged.as_str()].into_iter(), &trusted);
            prop_assert_eq!(direct.0, outside);
            let written = format!("{forged}, {outside}");
            let proxy = "10.0.0.1".parse().unwrap();
            let behind = ClientIp::resolve(proxy, [written.as_str()].into_iter(), &trusted);
            prop_assert_eq!(behind.0, outside);
        }
    }
}
