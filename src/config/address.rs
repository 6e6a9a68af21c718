//! The syntax of addresses to listen on.

use std::net::SocketAddr;

/// The distance between a port and the one beside it. Neighboring ports are those that people give to
/// further servers, so the distance is large.
const PORT_DISTANCE: u16 = 10_000;

/// Whether `text` is an address to listen on. Host names are resolved only when the server binds.
pub(super) fn is_address(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let port_is_good =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    port_is_good && is_host_name(host)
}

/// An address of this machine alone, with a port far from that of `bind`: two servers with neighboring
/// ports, or with different loopback addresses, get different addresses. A free port stays one.
pub(super) fn local_address_beside(bind: &str) -> String {
    let (host, port) = bind.rsplit_once(':').unwrap_or_default();
    let beside = match port.parse::<u16>().unwrap_or_default() {
        0 => 0,
        port => port.checked_add(PORT_DISTANCE).unwrap_or_else(|| port - PORT_DISTANCE),
    };
    let host = bind.parse::<SocketAddr>().is_ok_and(|it| it.ip().is_loopback()).then_some(host);
    format!("{}:{beside}", host.unwrap_or("127.0.0.1"))
}

/// Whether an address to listen on is one of this machine only. Of the names only `localhost` is.
pub(super) fn is_loopback(address: &str) -> bool {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return address.ip().to_canonical().is_loopback();
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("localhost")
}

fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    // A name whose last label is a number is a mistyped IPv4 address.
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253
        && host.split('.').all(label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_several_forms() {
        for address in [
            "127.0.0.1:7080",
            "127.9.9.9:0",
            "[::1]:7080",
            "[::ffff:127.0.0.1]:1",
            "localhost:1",
            "LocalHost.:1",
        ] {
            assert!(is_address(address) && is_loopback(address), "{address}");
        }
        for address in [
            "0.0.0.0:7080",
            "[::]:7080",
            "10.0.0.1:1",
            "[::ffff:10.0.0.1]:1",
            "muster:1",
            "localhost.example:1",
        ] {
            assert!(is_address(address) && !is_loopback(address), "{address}");
        }
    }
}
