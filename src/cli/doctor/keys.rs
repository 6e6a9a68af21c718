//! The check of the API keys: those that expire soon. Without one the report has no line.

use super::super::explain::explain;
use super::report::{Check, with_causes};
use crate::service::admin::AdminContext;
use crate::service::admin::keys;

pub(super) const NAME: &str = "keys";
/// The keys that a finding names.
const MAX_NAMED: usize = 10;

pub(super) async fn check(admin: &AdminContext) -> Option<Check> {
    let mut keys = match keys::expiring(admin).await.map_err(explain) {
        Ok(keys) => keys,
        Err(error) => {
            return Some(Check::fail(NAME, with_causes(error), "see the check of secrets"));
        }
    };
    keys.sort_by_key(|key| key.limits.expires_at);
    let named: Vec<String> = keys
        .iter()
        .take(MAX_NAMED)
        .filter_map(|key| {
            let expires_at = key.limits.expires_at?.format("%F %T UTC");
            Some(format!("{} of app {}/{} at {expires_at}", key.id, key.buin, key.app_id))
        })
        .collect();
    let more = match keys.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let remedy = "give their clients new ones: `muster key create`, then `muster key revoke`";
    (!named.is_empty())
        .then(|| Check::warn(NAME, format!("expire soon: {}{more}", named.join(", ")), remedy))
}
