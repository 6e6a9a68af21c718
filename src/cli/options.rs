//! The options of the rooms below, from the configuration.

use super::database::pool_limits;
use crate::config::{RemovalLimit, RemoveMembers, Settings};
use crate::domain::{RemovePolicy, Rules};
use crate::http::AuthOptions;
use crate::service::{CacheOptions, SessionOptions};

/// The options of authentication and of rate limits.
pub(super) fn auth_options(Settings { server, limits, policy, .. }: &Settings) -> AuthOptions {
    AuthOptions {
        max_failed_attempts: limits.max_failed_attempts,
        requests_per_second: limits.requests_per_second,
        burst: limits.burst,
        trusted_proxies: server.trusted_proxies.clone(),
        refuse_replayed_writes: policy.refuse_replayed_writes,
    }
}

/// The options of the session use cases.
#[must_use]
pub fn session_options(settings: &Settings) -> SessionOptions {
    let Settings { limits, database, cache, .. } = settings;
    SessionOptions {
        rules: Rules {
            min_members: limits.min_members,
            min_remaining: match settings.policy.removal {
                RemovalLimit::KeepMinimum => limits.min_members,
                RemovalLimit::DownToOne => 1,
            },
            max_members: limits.max_members,
            remove_members: match settings.policy.remove_members {
                RemoveMembers::Owner => RemovePolicy::Owner,
                RemoveMembers::Member => RemovePolicy::Member,
            },
        },
        limits: pool_limits(settings),
        request_timeout: settings.server.request_timeout,
        max_queued: limits.max_queued,
        max_batch: database.max_batch,
        cache: CacheOptions {
            enabled: cache.enabled,
            max_bytes: cache.max_bytes,
            follow_interval: cache.follow_interval,
        },
    }
}
