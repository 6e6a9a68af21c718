//! What all who batch requests share.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::time::Instant;

use super::commands::SessionAffinity;
use crate::clock::Clock;
use crate::domain::Rules;
use crate::metrics::Metrics;
use crate::repository::PgPool;
use crate::repository::line::Line;
use crate::repository::pool::Limits;
use crate::service::pool_admission::Pooled;
use crate::service::session_cache::{Cache, CacheOptions};
use crate::service::{Caller, Changed};

/// What requests are shared by, and how.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// The rules in force.
    pub rules: Rules,
    /// How the database is used.
    pub limits: Limits,
    /// By when a request is answered: half of it may pass until its last statement begins.
    pub request_timeout: Duration,
    /// How many requests may wait in one queue.
    pub max_waiting: usize,
    /// How many requests may share a statement; 1 = each has its own.
    pub max_batch: usize,
    /// What is held in memory.
    pub cache: CacheOptions,
}

/// What the lanes, and whatever else reads and writes sessions, have in common.
pub(in crate::service) struct Context {
    pub(in crate::service) pool: PgPool,
    pub(in crate::service) rules: Rules,
    pub(in crate::service) limits: Limits,
    pub(in crate::service) clock: Clock,
    pub(in crate::service) cache: Cache,
    pub(in crate::service) change_notifier: Arc<Changed>,
    pub(in crate::service) metrics: Arc<Metrics>,
    pub(super) max_batch: usize,
    pub(super) max_queued: usize,
    pub(in crate::service) pool_admission: Pooled,
    pub(in crate::service) affinity: Arc<SessionAffinity>,
    /// How many lanes there are beside the first.
    pub(super) threads: AtomicUsize,
    request_timeout: Duration,
}

impl Context {
    /// What the lanes to the database behind `pool` have in common.
    pub(in crate::service) fn new(
        pool: PgPool,
        clock: Clock,
        options: SessionOptions,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let max_queued = options.max_waiting.max(1);
        Arc::new(Self {
            pool_admission: Pooled::new(pool.clone(), options.limits, max_queued),
            pool,
            rules: options.rules,
            limits: options.limits,
            clock,
            cache: Cache::new(options.cache, metrics.clone()),
            change_notifier: Arc::default(),
            metrics,
            max_batch: options.max_batch.max(1),
            max_queued,
            request_timeout: options.request_timeout,
            affinity: SessionAffinity::new(),
            threads: AtomicUsize::new(0),
        })
    }

    /// A connection for the statements of one batcher. It connects when it is first used.
    pub(super) fn dedicated_connection(&self) -> Line {
        Line::new(&self.pool, self.limits, self.metrics.clone())
    }

    /// By when the next statement for a caller must begin: its end must come in time to be told.
    pub(in crate::service) fn deadline_for(&self, caller: &Caller) -> Instant {
        let last = caller.admitted_at() + self.request_timeout / 2;
        last.min(Instant::now() + self.limits.acquire_timeout)
    }
}
