//! The state that all batchers and all session use cases share.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::commands::SessionAffinity;
use crate::clock::Clock;
use crate::config::{RemovalLimit, RemoveMembers, Settings};
use crate::domain::{RemovePolicy, Rules};
use crate::metrics::Metrics;
use crate::repository::Pool;
use crate::repository::connections::dedicated_connection::DedicatedConnection;
use crate::repository::connections::pool::PoolLimits;
use crate::service::comparison_slots::ComparisonSlots;
use crate::service::feed::hub::{FeedHub, StreamLimits};
use crate::service::feed::{ConsumerWaits, WrittenChange};
use crate::service::pool_admission::PoolAdmission;
use crate::service::session_cache::{CacheOptions, SessionCache};
use crate::service::{Caller, ChangeNotifier};

/// The options of storing, batching and caching sessions.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// The rules in force.
    pub rules: Rules,
    /// The limits of connections and statements.
    pub limits: PoolLimits,
    /// The time limit of a request. Its last statement must start within half of this time.
    pub request_timeout: Duration,
    /// The maximum number of requests that wait in one queue.
    pub max_queued: usize,
    /// The maximum number of requests that share a statement. 1 = each request has its own.
    pub max_batch: usize,
    /// The cache of sessions.
    pub cache: CacheOptions,
    /// The limits of streams and of requests that wait for changes.
    pub streams: StreamLimits,
}

impl SessionOptions {
    /// The options of the configuration.
    #[must_use]
    pub fn from_settings(settings: &Settings) -> Self {
        let Settings { limits, database, cache, policy, .. } = settings;
        Self {
            rules: Rules {
                min_members: limits.min_members,
                min_remaining: match policy.remaining_members {
                    RemovalLimit::KeepMinimum => limits.min_members,
                    RemovalLimit::DownToOne => 1,
                },
                max_members: limits.max_members,
                remove_members: match policy.remove_members {
                    RemoveMembers::Owner => RemovePolicy::Owner,
                    RemoveMembers::Member => RemovePolicy::Member,
                },
            },
            limits: PoolLimits::from_settings(settings),
            request_timeout: settings.server.request_timeout,
            max_queued: limits.max_queued,
            max_batch: database.max_batch,
            cache: CacheOptions {
                enabled: cache.enabled,
                max_bytes: cache.max_bytes,
                follow_interval: cache.follow_interval,
            },
            streams: StreamLimits {
                max_per_app: limits.max_streams_per_app,
                max_per_enterprise: limits.max_streams_per_enterprise,
            },
        }
    }
}

/// The state that the batchers of all threads share.
pub(in crate::service) struct Context {
    pub(in crate::service) pool: Pool,
    pub(in crate::service) rules: Rules,
    pub(in crate::service) limits: PoolLimits,
    pub(in crate::service) clock: Clock,
    pub(in crate::service) cache: SessionCache,
    pub(in crate::service) change_notifier: Arc<ChangeNotifier>,
    /// Wakes the sequencer when a statement of this server has written changes.
    pub(in crate::service) change_written: Notify,
    /// Gives new changes to streams and waiting requests.
    pub(in crate::service) feed_hub: Arc<FeedHub>,
    pub(in crate::service) metrics: Arc<Metrics>,
    pub(super) max_batch: usize,
    pub(super) max_queued: usize,
    pub(in crate::service) pool_admission: PoolAdmission,
    pub(in crate::service) comparison_slots: ComparisonSlots,
    pub(in crate::service) consumer_waits: ConsumerWaits,
    pub(in crate::service) affinity: Arc<SessionAffinity>,
    /// The number of further threads that asked for their own queues.
    pub(super) threads: AtomicUsize,
    request_timeout: Duration,
}

impl Context {
    /// A context for the database behind `pool`.
    pub(in crate::service) fn new(
        pool: Pool,
        clock: Clock,
        options: SessionOptions,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let max_queued = options.max_queued.max(1);
        Arc::new(Self {
            pool_admission: PoolAdmission::new(pool.clone(), options.limits, max_queued),
            pool,
            rules: options.rules,
            limits: options.limits,
            clock,
            cache: SessionCache::new(options.cache, metrics.clone()),
            change_notifier: Arc::default(),
            change_written: Notify::new(),
            feed_hub: Arc::new(FeedHub::new(options.streams, metrics.clone())),
            metrics,
            max_batch: options.max_batch.max(1),
            max_queued,
            request_timeout: options.request_timeout,
            comparison_slots: ComparisonSlots::default(),
            consumer_waits: ConsumerWaits::default(),
            affinity: SessionAffinity::new(),
            threads: AtomicUsize::new(0),
        })
    }

    /// A connection for the statements of one batcher. It connects on first use.
    pub(super) fn dedicated_connection(&self) -> DedicatedConnection {
        DedicatedConnection::new(&self.pool, self.limits, self.metrics.clone())
    }

    /// Reports the changes of a statement to the feed.
    pub(super) fn record_written<'a>(&self, changes: impl Iterator<Item = WrittenChange<'a>>) {
        // The sequencer wakes the reader of the hub, which needs the roles then.
        self.feed_hub.record_written(changes);
        self.change_written.notify_one();
    }

    /// The deadline for the start of the caller's next statement. It leaves time to send the
    /// response.
    pub(in crate::service) fn deadline_for(&self, caller: &Caller) -> Instant {
        let last = caller.authenticated_at() + self.request_timeout / 2;
        last.min(Instant::now() + self.limits.acquire_timeout)
    }
}

#[cfg(test)]
impl Context {
    /// A context that never connects to a database.
    pub(in crate::service) fn for_tests() -> Arc<Self> {
        use crate::repository::connections::pool;

        let second = std::time::Duration::from_secs(1);
        let options = SessionOptions {
            rules: Rules {
                min_members: 1,
                min_remaining: 1,
                max_members: 9,
                remove_members: RemovePolicy::Owner,
            },
            limits: PoolLimits {
                max_connections: 1,
                acquire_timeout: second,
                statement_timeout: second,
            },
            request_timeout: second,
            max_queued: 64,
            max_batch: 64,
            cache: CacheOptions { enabled: false, max_bytes: 0, follow_interval: second },
            streams: StreamLimits { max_per_app: 1, max_per_enterprise: 1 },
        };
        let pool = pool::unused(options.limits);
        Self::new(pool, Clock::system(), options, Arc::default())
    }
}
