//! A cache of whole sessions, bounded in memory.
//!
//! A session is stored when it was read or written. It is removed when memory is needed, and when
//! another server has changed it, as [`super::feed`] reports. The surprise is the mark: a reader or
//! writer takes one before its statement, and its session is stored only if no later version was
//! reported since. Otherwise a slow reader or writer could overwrite a newer version with an older
//! one, and nothing would ever detect it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache as Held;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};
use tokio::time::Instant;

use super::KnownSession;
use crate::domain::{SessionId, Version};
use crate::metrics::{self, Metrics};

/// How many logs of recent changes there are. Sessions share them by hash.
const PLACES: usize = 1_024;
/// How many changes a log holds: more than are added while a statement runs.
const RECENT: u64 = 8;
/// The average memory of a session, in bytes, to estimate the number of entries.
const USUAL: u64 = 1_024;

/// The size and the freshness of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Whether sessions are cached at all.
    pub enabled: bool,
    /// The most memory of the cache, in bytes, as estimated.
    pub max_bytes: u64,
    /// The longest time until a change by another server is visible here. The feed is polled twice
    /// in this time. If no poll succeeds for this long, all sessions are read from the database.
    pub follow_interval: Duration,
}

/// Sessions by id, bounded by weight.
type Bounded = Held<SessionId, Arc<KnownSession>, Size, DefaultHashBuilder, Evicted>;

pub(super) struct Cache {
    held: Option<Bounded>,
    places: Box<[Mutex<Place>]>,
    options: CacheOptions,
    since: Instant,
    /// Until when the cached sessions may be used, in milliseconds after `since`.
    fresh_until: AtomicU64,
    /// When the last successful poll of the feed started, in milliseconds after `since`; 0 = never.
    followed: AtomicU64,
    metrics: Arc<Metrics>,
}

/// The recent changes of the sessions that share this log.
#[derive(Default)]
struct Place {
    /// How many changes were added.
    heard: u64,
    /// The latest changes; change `n` is at `n % RECENT`. `None` stands for a change of any
    /// session.
    recent: [Option<(SessionId, Version)>; RECENT as usize],
}

/// How many changes the log of a session had when a read or write of the session started.
#[derive(Clone, Copy)]
pub(super) struct Mark(u64);

#[derive(Clone)]
struct Size;

impl Weighter<SessionId, Arc<KnownSession>> for Size {
    fn weight(&self, _: &SessionId, session: &Arc<KnownSession>) -> u64 {
        session.size()
    }
}

/// Counts the sessions that are removed because memory is needed.
#[derive(Clone)]
struct Evicted(Arc<Metrics>);

impl Lifecycle<SessionId, Arc<KnownSession>> for Evicted {
    type RequestState = ();

    // `on_evict` would also count replaced sessions.
    fn before_evict(&self, (): &mut (), _: &SessionId, _: &mut Arc<KnownSession>) {
        self.0.cache_evictions.inc();
    }
}

impl Cache {
    pub(super) fn new(options: CacheOptions, metrics: Arc<Metrics>) -> Self {
        let guess = usize::try_from(options.max_bytes / USUAL).unwrap_or(usize::MAX);
        let held = options.enabled.then(|| {
            let (hash, evicted) = (DefaultHashBuilder::default(), Evicted(metrics.clone()));
            Held::with(guess, options.max_bytes, Size, hash, evicted)
        });
        Self {
            held,
            places: (0..PLACES).map(|_| Mutex::default()).collect(),
            options,
            since: Instant::now(),
            fresh_until: AtomicU64::new(0),
            followed: AtomicU64::new(0),
            metrics,
        }
    }

    pub(super) fn options(&self) -> CacheOptions {
        self.options
    }

    /// A session that is fresh enough to be used.
    pub(super) fn get(&self, id: SessionId) -> Option<Arc<KnownSession>> {
        let held = self.held.as_ref()?;
        let found = if self.is_fresh() { held.get(&id) } else { None };
        match found {
            Some(_) => self.metrics.cache_hits.inc(),
            None => self.metrics.cache_misses.inc(),
        }
        found
    }

    /// The state of the cache for the metrics.
    pub(super) fn vitals(&self) -> Option<metrics::Cache> {
        let held = self.held.as_ref()?;
        let followed = Duration::from_millis(self.followed.load(Ordering::Relaxed));
        let age = self.since.elapsed().saturating_sub(followed);
        Some(metrics::Cache {
            entries: held.len(),
            bytes: held.weight(),
            max_bytes: self.options.max_bytes,
            fresh: self.is_fresh(),
            followed: (!followed.is_zero()).then_some(age),
        })
    }

    /// A mark to take before a session is read or written.
    pub(super) fn mark(&self, id: SessionId) -> Mark {
        Mark(self.place(id).heard)
    }

    /// Stores a session that was read after `mark` was taken, unless a later version is known.
    pub(super) fn keep(&self, mark: Mark, session: &Arc<KnownSession>) {
        let Some(held) = &self.held else { return };
        let place = self.place(session.id);
        if !place.may_have_heard_of_later(mark, session) && !is_known(held, session) {
            held.insert(session.id, session.clone());
        }
    }

    /// Stores a session that was written after `mark` was taken, in place of its earlier version.
    pub(super) fn replace(&self, mark: Mark, session: &Arc<KnownSession>) {
        let Some(held) = &self.held else { return };
        let mut place = self.place(session.id);
        let too_late = place.may_have_heard_of_later(mark, session);
        place.hear(Some((session.id, session.version)));
        match is_known(held, session) {
            true => {}
            false if too_late => _ = held.remove(&session.id),
            false => held.insert(session.id, session.clone()),
        }
    }

    /// Removes a session unless it is cached at this version or a later one.
    pub(super) fn changed(&self, id: SessionId, version: Version) {
        let Some(held) = &self.held else { return };
        let mut place = self.place(id);
        place.hear(Some((id, version)));
        if held.peek(&id).is_some_and(|known| known.version < version) {
            held.remove(&id);
        }
    }

    /// Removes all sessions, after changes that are unknown.
    pub(super) fn clear(&self) {
        let Some(held) = &self.held else { return };
        for place in &self.places {
            place.lock().unwrap_or_else(PoisonError::into_inner).hear(None);
        }
        held.clear();
    }

    /// Reports that [`Cache::changed`] was called for every change that was committed before `at`.
    pub(super) fn is_up_to_date(&self, at: Instant) {
        let until = at + self.options.follow_interval;
        self.fresh_until.store(self.millis(until), Ordering::Relaxed);
        // 0 means never.
        self.followed.store(self.millis(at).max(1), Ordering::Relaxed);
    }

    fn millis(&self, at: Instant) -> u64 {
        let millis = at.saturating_duration_since(self.since).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }

    fn is_fresh(&self) -> bool {
        let now = self.since.elapsed().as_millis();
        now < u128::from(self.fresh_until.load(Ordering::Relaxed))
    }

    fn place(&self, id: SessionId) -> MutexGuard<'_, Place> {
        // A poisoned lock is usable: no code panics while it holds one.
        self.places[id.place(PLACES)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a session is cached at this version or a later one. An entry of the same version stays,
/// because it may have been rendered.
fn is_known(held: &Bounded, session: &KnownSession) -> bool {
    held.peek(&session.id).is_some_and(|known| known.version >= session.version)
}

impl Place {
    /// Adds a change.
    fn hear(&mut self, change: Option<(SessionId, Version)>) {
        self.recent[slot(self.heard)] = change;
        self.heard += 1;
    }

    /// Whether a later version of the session may have been added since `mark`.
    fn may_have_heard_of_later(&self, Mark(mark): Mark, session: &KnownSession) -> bool {
        // Changes that the log no longer holds may have been of this session.
        self.heard - mark > RECENT
            || (mark..self.heard).any(|number| {
                self.recent[slot(number)]
                    .is_none_or(|(id, version)| id == session.id && version > session.version)
            })
    }
}

/// The index of a change in the log.
fn slot(number: u64) -> usize {
    // The remainder is less than `RECENT`, so it fits.
    (number % RECENT) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        Account, Attributes, Buin, NewSession, RemovePolicy, Rules, Session, Title,
    };

    fn cache(max_bytes: u64) -> Cache {
        let follow_interval = Duration::from_millis(100);
        let options = CacheOptions { enabled: true, max_bytes, follow_interval };
        let cache = Cache::new(options, Arc::default());
        cache.is_up_to_date(Instant::now());
        cache
    }

    fn session(id: u128, version: i64) -> Arc<KnownSession> {
        let rules = Rules { min_members: 1, max_members: 9, remove_members: RemovePolicy::Owner };
        let new = NewSession {
            title: Title::new("t").unwrap(),
            creator: Account::new("a").unwrap(),
            members: Vec::new(),
            attributes: Attributes::default(),
            reason: None,
        };
        let id = SessionId::new(uuid::Uuid::from_u128(id));
        let at = chrono::DateTime::UNIX_EPOCH;
        let session = Session::create(id, Buin::new(1).unwrap(), new, &rules, at).unwrap();
        Arc::new(Session { version: Version::new(version).unwrap(), ..session }.into())
    }

    fn replace(cache: &Cache, id: u128, version: i64) {
        let session = session(id, version);
        cache.replace(cache.mark(session.id), &session);
    }

    fn version(cache: &Cache, id: u128) -> Option<i64> {
        let found = cache.get(SessionId::new(uuid::Uuid::from_u128(id)));
        found.map(|session| session.version.get())
    }

    #[test]
    fn session_read_before_a_change_is_not_stored_after_it() {
        let cache = cache(1 << 20);
        let id = session(1, 1).id;
        let mark = cache.mark(id);
        cache.keep(mark, &session(1, 1));
        assert_eq!(version(&cache, 1), Some(1));
        replace(&cache, 1, 2);
        cache.keep(mark, &session(1, 1));
        assert_eq!(version(&cache, 1), Some(2));

        let mark = cache.mark(id);
        cache.changed(id, Version::new(3).unwrap());
        assert_eq!(version(&cache, 1), None);
        cache.keep(mark, &session(1, 2));
        assert_eq!(version(&cache, 1), None);
        // The same if the session was not cached at the time of the change.
        let mark = cache.mark(id);
        cache.clear();
        cache.keep(mark, &session(1, 2));
        assert_eq!(version(&cache, 1), None);
    }

    #[test]
    fn own_changes_reported_by_the_feed_remove_nothing() {
        let cache = cache(1 << 20);
        replace(&cache, 1, 2);
        cache.changed(session(1, 2).id, Version::new(2).unwrap());
        assert_eq!(version(&cache, 1), Some(2));
    }

    #[test]
    fn written_session_is_not_stored_if_a_later_change_was_reported_first() {
        let cache = cache(1 << 20);
        let tell = |id, version| cache.changed(session(id, 1).id, Version::new(version).unwrap());
        let mark = cache.mark(session(1, 1).id);
        tell(1, 3);
        cache.replace(mark, &session(1, 2));
        assert_eq!(version(&cache, 1), None);
        // The own change, reported before its writer knows of it; and a change of another session.
        let mark = cache.mark(session(1, 1).id);
        tell(1, 4);
        cache.replace(mark, &session(1, 4));
        assert_eq!(version(&cache, 1), Some(4));
        let mark = cache.mark(session(1, 1).id);
        tell(1 + PLACES as u128, 9);
        cache.replace(mark, &session(1, 5));
        assert_eq!(version(&cache, 1), Some(5));
        // More changes than the log holds.
        let mark = cache.mark(session(1, 1).id);
        for version in 10..=10 + RECENT as i64 {
            tell(1 + PLACES as u128, version);
        }
        cache.replace(mark, &session(1, 6));
        assert_eq!(version(&cache, 1), None);
        let mark = cache.mark(session(1, 1).id);
        cache.clear();
        cache.replace(mark, &session(1, 8));
        assert_eq!(version(&cache, 1), None);
    }

    #[test]
    fn slow_reader_or_writer_never_restores_an_old_version() {
        let cache = cache(1 << 20);
        let id = session(1, 1).id;
        let tell = |version| cache.changed(id, Version::new(version).unwrap());
        for write in [false, true] {
            cache.clear();
            let mark = cache.mark(id);
            let bring = |version| match write {
                false => cache.keep(mark, &session(1, version)),
                true => cache.replace(mark, &session(1, version)),
            };
            // Another request reads a later version, before that is reported or after.
            cache.keep(cache.mark(id), &session(1, 4));
            bring(3);
            assert_eq!(version(&cache, 1), Some(4));
            tell(3);
            tell(4);
            bring(3);
            assert_eq!(version(&cache, 1), Some(4));
            // The same if that was evicted meanwhile.
            cache.held.as_ref().unwrap().remove(&id);
            bring(3);
            assert_eq!(version(&cache, 1), None);
            bring(4);
            assert_eq!(version(&cache, 1), Some(4));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let cache = cache(100_000);
        for id in 0..10_000 {
            replace(&cache, id, 1);
        }
        let held = cache.held.as_ref().unwrap();
        assert!(held.weight() <= 100_000, "{}", held.weight());
        assert!(held.len() > 10, "{}", held.len());
        assert_eq!(cache.metrics.cache_evictions.value(), 10_000 - held.len() as u64);
    }

    #[test]
    fn outdated_cache_is_not_used() {
        let cache = cache(1 << 20);
        replace(&cache, 1, 1);
        assert_eq!(version(&cache, 1), Some(1));
        let long_ago = Instant::now() - cache.options.follow_interval;
        cache.is_up_to_date(long_ago);
        assert_eq!(version(&cache, 1), None);
        cache.is_up_to_date(Instant::now());
        assert_eq!(version(&cache, 1), Some(1));
    }
}
