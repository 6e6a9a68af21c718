//! The limits of API keys: as arguments, and in the output.

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;
use serde_json::Value;

use crate::domain::Permission;
use crate::service::admin::keys::KeyLimits;

/// The maximum number of networks of a key.
const MAX_NETWORKS: usize = 64;
/// The longest validity of a key that expires.
const MAX_VALIDITY: Duration = Duration::from_secs(36_500 * 86_400);

#[derive(Args, Clone)]
pub(in crate::cli) struct LimitArgs {
    /// When the key expires: a duration from now such as 90d, or a time such as 2026-12-31T00:00:00Z;
    /// never by default
    #[arg(long, value_name = "WHEN", value_parser = expiry)]
    expires: Option<Expiry>,
    /// The permissions of the key, among those of its app; by default all that the app has
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    permissions: Option<Vec<Permission>>,
    /// The networks from which the key may be used, such as 10.0.0.0/8,203.0.113.7; by default all
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = network)]
    networks: Vec<IpNet>,
}

#[derive(Clone, Copy)]
enum Expiry {
    After(Duration),
    At(DateTime<Utc>),
}

fn expiry(text: &str) -> Result<Expiry, String> {
    if let Ok(at) = text.parse() {
        return Ok(Expiry::At(at));
    }
    match humantime::parse_duration(text) {
        Ok(duration) if (Duration::from_secs(1)..=MAX_VALIDITY).contains(&duration) => {
            Ok(Expiry::After(duration))
        }
        Ok(_) => Err("must be from 1 second to 36500 days".to_owned()),
        Err(_) => {
            Err("must be a duration such as 90d, or a time such as 2026-12-31T00:00:00Z".to_owned())
        }
    }
}

/// A network, or an address alone. Clients with IPv4 have IPv4 addresses, so a network of addresses
/// that are mapped to IPv6 becomes one of IPv4.
fn network(text: &str) -> Result<IpNet, String> {
    let network = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(network), _) => network,
        (Err(_), Ok(address)) => address.into(),
        (Err(_), Err(_)) => {
            return Err("must be a network such as 10.0.0.0/8, or an address".to_owned());
        }
    };
    let mapped = match network {
        IpNet::V4(_) => None,
        IpNet::V6(network) => network
            .addr()
            .to_ipv4_mapped()
            .and_then(|address| Ipv4Net::new(address, network.prefix_len().checked_sub(96)?).ok()),
    };
    Ok(mapped.map_or(network, IpNet::from).trunc())
}

impl LimitArgs {
    /// Checks mistakes that a single value cannot show.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.networks.len() {
            0..=MAX_NETWORKS => Ok(()),
            count => Err(format!("--networks: at most {MAX_NETWORKS} networks, got {count}")),
        }
    }

    /// The limits of a key that is created now.
    pub(super) fn at(self, now: DateTime<Utc>) -> KeyLimits {
        let expires_at = self.expires.map(|expiry| match expiry {
            Expiry::After(duration) => now + duration,
            Expiry::At(at) => at,
        });
        KeyLimits { expires_at, permissions: self.permissions, networks: self.networks }
    }
}

/// The limits of a key in the output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LimitsOutput {
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) permissions: Option<Vec<String>>,
    pub(super) networks: Vec<String>,
}

impl LimitsOutput {
    /// Adds the limits that a key has to an object.
    pub(super) fn add_to(&self, object: &mut Value) {
        if let Some(expires_at) = self.expires_at {
            object["expiresAt"] = serde_json::json!(expires_at);
        }
        if let Some(permissions) = &self.permissions {
            object["permissions"] = serde_json::json!(permissions);
        }
        if !self.networks.is_empty() {
            object["networks"] = serde_json::json!(self.networks);
        }
    }
}

impl From<&KeyLimits> for LimitsOutput {
    fn from(limits: &KeyLimits) -> Self {
        let names = |list: &Vec<Permission>| list.iter().map(ToString::to_string).collect();
        Self {
            expires_at: limits.expires_at,
            permissions: limits.permissions.as_ref().map(names),
            networks: limits.networks.iter().map(network_text).collect(),
        }
    }
}

/// A network in the output: an address without a length if it is one address.
pub(super) fn network_text(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_written_in_one_way() {
        for (text, written) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7/32", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.7", "10.0.0.7"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(network_text(&network(text).unwrap()), written, "{text}");
        }
        for text in ["", "10.0.0.0/33", "10.0.0", "host.example", "10.0.0.0-10.0.0.9"] {
            assert!(network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn expiry_is_a_duration_or_a_time() {
        let now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |text: &str| match expiry(text)? {
            Expiry::After(duration) => Ok::<_, String>((now + duration).to_rfc3339()),
            Expiry::At(at) => Ok(at.to_rfc3339()),
        };
        assert_eq!(at("90d").unwrap(), "2026-04-01T00:00:00+00:00");
        assert_eq!(at("12h 30m").unwrap(), "2026-01-01T12:30:00+00:00");
        assert_eq!(at("2026-12-31T00:00:00+08:00").unwrap(), "2026-12-30T16:00:00+00:00");
        for text in ["", "0s", "90", "tomorrow", "200years", "-1d"] {
            assert!(expiry(text).is_err(), "{text}");
        }
    }
}
