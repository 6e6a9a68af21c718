//! The network that counts as one client.

use std::net::IpAddr;

use ipnet::IpNet;

/// The network that counts as one client: an IPv4 address, or the /64 network of an IPv6 customer.
pub(crate) fn client_network(address: IpAddr) -> IpNet {
    let length = if address.is_ipv4() { 32 } else { 64 };
    IpNet::new(address, length).map_or_else(|_| address.into(), |network| network.trunc())
}
