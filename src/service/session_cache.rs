//! A cache of whole sessions, bounded in memory.
//!
//! A session is stored after a read or write. It is removed when memory is needed, or when
//! [`super::feed`] reports a change by another server. The surprise is the fill token: a reader or
//! writer takes one before its statement, and its session is stored only if no later version was
//! reported since. Otherwise a slow reader or writer could replace a newer version by an older one,
//! and the error would never be detected.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};
use tokio::time::Instant;

use super::CachedSession;
use crate::domain::{SessionId, Version};
use crate::metrics::{self, Metrics};

/// The number of logs of recent changes. Sessions share them by hash.
const SHARDS: usize = 1_024;
/// The number of changes in a log: more than are added while a statement runs.
const LOG_LEN: u64 = 8;
/// The average memory of a session, in bytes, to estimate the number of entries.
const AVERAGE_SESSION_BYTES: u64 = 1_024;

/// The size and the freshness of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Whether sessions are cached.
    pub enabled: bool,
    /// The maximum memory of the cache, in bytes, as estimated.
    pub max_bytes: u64,
    /// The maximum delay until a change by another server is visible here. The feed is polled twice
    /// in this time. If no poll succeeds for this long, all sessions are read from the database.
    pub follow_interval: Duration,
}

/// Sessions by id, bounded by weight.
type SessionMap =
    Cache<SessionId, Arc<CachedSession>, SessionWeighter, DefaultHashBuilder, EvictionCounter>;

pub(super) struct SessionCache {
    sessions: Option<SessionMap>,
    shards: Box<[Mutex<ChangeLogShard>]>,
    options: CacheOptions,
    started_at: Instant,
    /// The time until which the cached sessions may be used, in milliseconds after `started_at`.
    fresh_until: AtomicU64,
    /// The start of the last successful poll of the feed, in milliseconds after `started_at`; 0 =
    /// never.
    last_synced: AtomicU64,
    metrics: Arc<Metrics>,
}

/// The recent changes of the sessions that share this log.
#[derive(Default)]
struct ChangeLogShard {
    /// The number of changes added so far.
    sequence: u64,
    /// The latest changes. Change `n` is at `n % LOG_LEN`. `None` means a change of any session.
    recent_changes: [Option<(SessionId, Version)>; LOG_LEN as usize],
}

/// The number of changes in the log of a session before a read or write of the session.
#[derive(Clone, Copy)]
pub(super) struct FillToken(u64);

#[derive(Clone)]
struct SessionWeighter;

impl Weighter<SessionId, Arc<CachedSession>> for SessionWeighter {
    fn weight(&self, _: &SessionId, session: &Arc<CachedSession>) -> u64 {
        session.memory_size()
    }
}

/// Counts the sessions that are removed because memory is needed.
#[derive(Clone)]
struct EvictionCounter(Arc<Metrics>);

impl Lifecycle<SessionId, Arc<CachedSession>> for EvictionCounter {
    type RequestState = ();

    // `on_evict` would also count replaced sessions.
    fn before_evict(&self, (): &mut (), _: &SessionId, _: &mut Arc<CachedSession>) {
        self.0.cache_evictions.inc();
    }
}

impl SessionCache {
    pub(super) fn new(options: CacheOptions, metrics: Arc<Metrics>) -> Self {
        let expected_sessions =
            usize::try_from(options.max_bytes / AVERAGE_SESSION_BYTES).unwrap_or(usize::MAX);
        let sessions = options.enabled.then(|| {
            let (hash, eviction_counter) =
                (DefaultHashBuilder::default(), EvictionCounter(metrics.clone()));
            Cache::with(
                expected_sessions,
                options.max_bytes,
                SessionWeighter,
                hash,
                eviction_counter,
            )
        });
        Self {
            sessions,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            options,
            started_at: Instant::now(),
            fresh_until: AtomicU64::new(0),
            last_synced: AtomicU64::new(0),
            metrics,
        }
    }

    pub(super) fn options(&self) -> CacheOptions {
        self.options
    }

    /// A session that is fresh enough to be used.
    pub(super) fn get(&self, id: SessionId) -> Option<Arc<CachedSession>> {
        self.get_if(id, |_| true)
    }

    /// The same, but only at the version `min` or a later one.
    pub(super) fn get_at_least(
        &self,
        id: SessionId,
        min: Option<Version>,
    ) -> Option<Arc<CachedSession>> {
        self.get_if(id, |session| min.is_none_or(|min| session.version >= min))
    }

    fn get_if(
        &self,
        id: SessionId,
        is_accepted: impl FnOnce(&CachedSession) -> bool,
    ) -> Option<Arc<CachedSession>> {
        let sessions = self.sessions.as_ref()?;
        let found = if self.is_fresh() { sessions.get(&id) } else { None };
        let found = found.filter(|session| is_accepted(session));
        match found {
            Some(_) => self.metrics.cache_hits.inc(),
            None => self.metrics.cache_misses.inc(),
        }
        found
    }

    /// The state of the cache for the metrics.
    pub(super) fn stats(&self) -> Option<metrics::CacheStats> {
        let sessions = self.sessions.as_ref()?;
        let last_synced = Duration::from_millis(self.last_synced.load(Ordering::Relaxed));
        let age = self.started_at.elapsed().saturating_sub(last_synced);
        Some(metrics::CacheStats {
            entries: sessions.len(),
            bytes: sessions.weight(),
            max_bytes: self.options.max_bytes,
            fresh: self.is_fresh(),
            sync_age: (!last_synced.is_zero()).then_some(age),
        })
    }

    /// The token to take before a session is read or written.
    pub(super) fn begin_fill(&self, id: SessionId) -> FillToken {
        FillToken(self.shard(id).sequence)
    }

    /// Stores a session that was read after `token` was taken, unless a later version is known.
    pub(super) fn fill(&self, token: FillToken, session: &Arc<CachedSession>) {
        let Some(sessions) = &self.sessions else { return };
        let shard = self.shard(session.id);
        if !shard.may_be_superseded_since(token, session) && !has_at_least(sessions, session) {
            sessions.insert(session.id, session.clone());
        }
    }

    /// Stores a session that was written after `token` was taken, in place of its earlier version.
    pub(super) fn publish(&self, token: FillToken, session: &Arc<CachedSession>) {
        let Some(sessions) = &self.sessions else { return };
        let mut shard = self.shard(session.id);
        let superseded = shard.may_be_superseded_since(token, session);
        shard.record(Some((session.id, session.version)));
        match has_at_least(sessions, session) {
            true => {}
            false if superseded => _ = sessions.remove(&session.id),
            false => sessions.insert(session.id, session.clone()),
        }
    }

    /// Removes a session unless it is cached at this version or a later one. Returns whether the
    /// version was known: it is cached, or is among the recent changes.
    pub(super) fn invalidate(&self, id: SessionId, version: Version) -> bool {
        let Some(sessions) = &self.sessions else { return false };
        let mut shard = self.shard(id);
        let cached_version = sessions.peek(&id).map(|cached| cached.version);
        let is_known =
            cached_version.is_some_and(|cached| cached >= version) || shard.has_recent(id, version);
        shard.record(Some((id, version)));
        if cached_version.is_some_and(|cached| cached < version) {
            sessions.remove(&id);
        }
        is_known
    }

    /// Removes all sessions after unknown changes.
    pub(super) fn clear(&self) {
        let Some(sessions) = &self.sessions else { return };
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).record(None);
        }
        sessions.clear();
    }

    /// Records that [`Self::invalidate`] was called for every change committed before `at`.
    pub(super) fn mark_synced(&self, at: Instant) {
        let fresh_until = at + self.options.follow_interval;
        self.fresh_until.store(self.millis(fresh_until), Ordering::Relaxed);
        // 0 means never.
        self.last_synced.store(self.millis(at).max(1), Ordering::Relaxed);
    }

    fn millis(&self, at: Instant) -> u64 {
        let millis = at.saturating_duration_since(self.started_at).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }

    fn is_fresh(&self) -> bool {
        let now = self.started_at.elapsed().as_millis();
        now < u128::from(self.fresh_until.load(Ordering::Relaxed))
    }

    fn shard(&self, id: SessionId) -> MutexGuard<'_, ChangeLogShard> {
        // A poisoned lock is usable: no code panics while it holds one.
        self.shards[id.shard(SHARDS)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a session is cached at this version or a later one. An entry of the same version stays,
/// because it may already be rendered.
fn has_at_least(sessions: &SessionMap, session: &CachedSession) -> bool {
    sessions.peek(&session.id).is_some_and(|cached| cached.version >= session.version)
}

impl ChangeLogShard {
    /// Adds a change.
    fn record(&mut self, change: Option<(SessionId, Version)>) {
        self.recent_changes[slot(self.sequence)] = change;
        self.sequence += 1;
    }

    /// Whether the log has this version of the session or a later one.
    fn has_recent(&self, id: SessionId, version: Version) -> bool {
        self.recent_changes
            .iter()
            .flatten()
            .any(|(recent, recent_version)| *recent == id && *recent_version >= version)
    }

    /// Whether the log may contain a later version of the session since `token`.
    fn may_be_superseded_since(
        &self,
        FillToken(token): FillToken,
        session: &CachedSession,
    ) -> bool {
        // The log no longer holds some changes, which may be changes of this session.
        self.sequence - token > LOG_LEN
            || (token..self.sequence).any(|number| {
                self.recent_changes[slot(number)]
                    .is_none_or(|(id, version)| id == session.id && version > session.version)
            })
    }
}

/// The index of a change in the log.
fn slot(number: u64) -> usize {
    // The remainder is less than `LOG_LEN`, so it fits.
    (number % LOG_LEN) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Session;

    fn cache(max_bytes: u64) -> SessionCache {
        let follow_interval = Duration::from_millis(100);
        let options = CacheOptions { enabled: true, max_bytes, follow_interval };
        let cache = SessionCache::new(options, Arc::default());
        cache.mark_synced(Instant::now());
        cache
    }

    fn session(id: u128, version: i64) -> Arc<CachedSession> {
        let version = Version::new(version).unwrap();
        Arc::new(Session { version, ..Session::sample(id, &["a"]) }.into())
    }

    fn replace(cache: &SessionCache, id: u128, version: i64) {
        let session = session(id, version);
        cache.publish(cache.begin_fill(session.id), &session);
    }

    fn version(cache: &SessionCache, id: u128) -> Option<i64> {
        let found = cache.get(SessionId::new(uuid::Uuid::from_u128(id)));
        found.map(|session| session.version.get())
    }

    #[test]
    fn session_read_before_a_change_is_not_stored_after_it() {
        let cache = cache(1 << 20);
        let id = session(1, 1).id;
        let token = cache.begin_fill(id);
        cache.fill(token, &session(1, 1));
        assert_eq!(version(&cache, 1), Some(1));
        replace(&cache, 1, 2);
        cache.fill(token, &session(1, 1));
        assert_eq!(version(&cache, 1), Some(2));

        let token = cache.begin_fill(id);
        cache.invalidate(id, Version::new(3).unwrap());
        assert_eq!(version(&cache, 1), None);
        cache.fill(token, &session(1, 2));
        assert_eq!(version(&cache, 1), None);
        // The same case if the session was not cached at the time of the change.
        let token = cache.begin_fill(id);
        cache.clear();
        cache.fill(token, &session(1, 2));
        assert_eq!(version(&cache, 1), None);
    }

    #[test]
    fn own_changes_reported_by_the_feed_remove_nothing() {
        let cache = cache(1 << 20);
        replace(&cache, 1, 2);
        let report = |version| cache.invalidate(session(1, 1).id, Version::new(version).unwrap());
        assert!(report(2), "the version is known");
        assert_eq!(version(&cache, 1), Some(2));
        assert!(!report(3), "the version is of another server");
        assert!(report(3), "the version was reported before");
        assert_eq!(version(&cache, 1), None);
    }

    #[test]
    fn written_session_is_not_stored_if_a_later_change_was_reported_first() {
        let cache = cache(1 << 20);
        let report =
            |id, version| cache.invalidate(session(id, 1).id, Version::new(version).unwrap());
        let token = cache.begin_fill(session(1, 1).id);
        report(1, 3);
        cache.publish(token, &session(1, 2));
        assert_eq!(version(&cache, 1), None);
        // The writer's own change, reported before the writer knows of it; and a change of another
        // session.
        let token = cache.begin_fill(session(1, 1).id);
        report(1, 4);
        cache.publish(token, &session(1, 4));
        assert_eq!(version(&cache, 1), Some(4));
        let token = cache.begin_fill(session(1, 1).id);
        report(1 + SHARDS as u128, 9);
        cache.publish(token, &session(1, 5));
        assert_eq!(version(&cache, 1), Some(5));
        // More changes than the log holds.
        let token = cache.begin_fill(session(1, 1).id);
        for version in 10..=10 + LOG_LEN as i64 {
            report(1 + SHARDS as u128, version);
        }
        cache.publish(token, &session(1, 6));
        assert_eq!(version(&cache, 1), None);
        let token = cache.begin_fill(session(1, 1).id);
        cache.clear();
        cache.publish(token, &session(1, 8));
        assert_eq!(version(&cache, 1), None);
    }

    #[test]
    fn slow_reader_or_writer_never_restores_an_old_version() {
        let cache = cache(1 << 20);
        let id = session(1, 1).id;
        let report = |version| cache.invalidate(id, Version::new(version).unwrap());
        for write in [false, true] {
            cache.clear();
            let token = cache.begin_fill(id);
            let store = |version| match write {
                false => cache.fill(token, &session(1, version)),
                true => cache.publish(token, &session(1, version)),
            };
            // Another request reads a later version, before or after the report.
            cache.fill(cache.begin_fill(id), &session(1, 4));
            store(3);
            assert_eq!(version(&cache, 1), Some(4));
            report(3);
            report(4);
            store(3);
            assert_eq!(version(&cache, 1), Some(4));
            // The same case if the later version was evicted meanwhile.
            cache.sessions.as_ref().unwrap().remove(&id);
            store(3);
            assert_eq!(version(&cache, 1), None);
            store(4);
            assert_eq!(version(&cache, 1), Some(4));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let cache = cache(100_000);
        for id in 0..10_000 {
            replace(&cache, id, 1);
        }
        let sessions = cache.sessions.as_ref().unwrap();
        assert!(sessions.weight() <= 100_000, "{}", sessions.weight());
        assert!(sessions.len() > 10, "{}", sessions.len());
        assert_eq!(cache.metrics.cache_evictions.value(), 10_000 - sessions.len() as u64);
    }

    #[test]
    fn outdated_cache_is_not_used() {
        let cache = cache(1 << 20);
        replace(&cache, 1, 1);
        assert_eq!(version(&cache, 1), Some(1));
        let long_ago = Instant::now() - cache.options.follow_interval;
        cache.mark_synced(long_ago);
        assert_eq!(version(&cache, 1), None);
        cache.mark_synced(Instant::now());
        assert_eq!(version(&cache, 1), Some(1));
    }
}
