//! Sessions that were read or written lately, whole, in bounded memory.
//!
//! A session gets in here when it was read and when it was written. It goes when memory is needed,
//! and when another server has changed it, which [`super::feed`] learns. The surprise are the marks:
//! whoever reads or writes the database takes one before, and what they bring is kept only if no
//! later version was heard of since. Else who is slow, reader or writer, could put back what somebody
//! faster has replaced, and nobody would ever notice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache as Held;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};
use tokio::time::Instant;

use super::KnownSession;
use crate::domain::{SessionId, Version};
use crate::metrics::{self, Metrics};

/// How many places there are for marks.
const PLACES: usize = 1_024;
/// How many changes of a place are remembered: more than it hears of while a statement runs.
const RECENT: u64 = 8;
/// What a session takes on average, to guess how many there will be.
const USUAL: u64 = 1_024;

/// How much is held, and how fresh it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Whether anything is held at all.
    pub enabled: bool,
    /// The memory that it may take, in bytes, estimated.
    pub max_bytes: u64,
    /// Within which time a change by another server is seen here. Twice as often it is asked what
    /// they have changed; when that is not known for so long, nothing is shown from memory.
    pub follow_interval: Duration,
}

/// Sessions in memory that is bounded.
type Bounded = Held<SessionId, Arc<KnownSession>, Size, DefaultHashBuilder, Evicted>;

pub(super) struct Cache {
    held: Option<Bounded>,
    places: Box<[Mutex<Place>]>,
    options: CacheOptions,
    since: Instant,
    /// Until when what is held can be shown, in milliseconds after `since`.
    fresh_until: AtomicU64,
    /// When it was last learnt what others had changed, in milliseconds after `since`; 0 = never.
    followed: AtomicU64,
    metrics: Arc<Metrics>,
}

/// What was heard of the sessions of a place.
#[derive(Default)]
struct Place {
    /// How many changes.
    heard: u64,
    /// The last of them; change `n` lies at `n % RECENT`. `None` was perhaps of every session.
    recent: [Option<(SessionId, Version)>; RECENT as usize],
}

/// How much had been heard of the place of a session when somebody began to read or write it.
#[derive(Clone, Copy)]
pub(super) struct Mark(u64);

#[derive(Clone)]
struct Size;

impl Weighter<SessionId, Arc<KnownSession>> for Size {
    fn weight(&self, _: &SessionId, session: &Arc<KnownSession>) -> u64 {
        session.size()
    }
}

/// Counts what goes because memory is needed.
#[derive(Clone)]
struct Evicted(Arc<Metrics>);

impl Lifecycle<SessionId, Arc<KnownSession>> for Evicted {
    type RequestState = ();

    // What is replaced is told by `on_evict` too, but not here.
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

    /// A session that can be shown.
    pub(super) fn get(&self, id: SessionId) -> Option<Arc<KnownSession>> {
        let held = self.held.as_ref()?;
        let found = if self.is_fresh() { held.get(&id) } else { None };
        match found {
            Some(_) => self.metrics.cache_hits.inc(),
            None => self.metrics.cache_misses.inc(),
        }
        found
    }

    /// How much is held, and how fresh it is.
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

    /// What must be kept in mind while a session is read or written.
    pub(super) fn mark(&self, id: SessionId) -> Mark {
        Mark(self.place(id).heard)
    }

    /// Keeps a session that was read after `mark` was taken.
    pub(super) fn keep(&self, mark: Mark, session: &Arc<KnownSession>) {
        let Some(held) = &self.held else { return };
        let place = self.place(session.id);
        if !place.may_have_heard_of_later(mark, session) && !is_known(held, session) {
            held.insert(session.id, session.clone());
        }
    }

    /// Puts a session that was written, after `mark` was taken, in the place of what was there.
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

    /// Drops a session unless it is known at this version or a later one.
    pub(super) fn changed(&self, id: SessionId, version: Version) {
        let Some(held) = &self.held else { return };
        let mut place = self.place(id);
        place.hear(Some((id, version)));
        if held.peek(&id).is_some_and(|known| known.version < version) {
            held.remove(&id);
        }
    }

    /// Drops everything: nobody knows what has changed.
    pub(super) fn clear(&self) {
        let Some(held) = &self.held else { return };
        for place in &self.places {
            place.lock().unwrap_or_else(PoisonError::into_inner).hear(None);
        }
        held.clear();
    }

    /// All that others had changed at `at` has been told to [`Cache::changed`].
    pub(super) fn is_up_to_date(&self, at: Instant) {
        let until = at + self.options.follow_interval;
        self.fresh_until.store(self.millis(until), Ordering::Relaxed);
        // At the earliest moment, too, it was not never.
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
        // Nothing panics while it is held.
        self.places[id.place(PLACES)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a session is held at this version, rendered perhaps, or at a later one.
fn is_known(held: &Bounded, session: &KnownSession) -> bool {
    held.peek(&session.id).is_some_and(|known| known.version >= session.version)
}

impl Place {
    /// Remembers a change.
    fn hear(&mut self, change: Option<(SessionId, Version)>) {
        self.recent[slot(self.heard)] = change;
        self.heard += 1;
    }

    /// Whether there may have been a later version of the session among what was heard since `mark`.
    fn may_have_heard_of_later(&self, Mark(mark): Mark, session: &KnownSession) -> bool {
        // What is forgotten may have been anything.
        self.heard - mark > RECENT
            || (mark..self.heard).any(|number| {
                self.recent[slot(number)]
                    .is_none_or(|(id, version)| id == session.id && version > session.version)
            })
    }
}

/// Where a change lies.
fn slot(number: u64) -> usize {
    // Less than `RECENT`, which is small.
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
    fn what_was_read_before_a_change_is_not_kept_after_it() {
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
        // Also when it was not held, or held and thrown away, at the time of the change.
        let mark = cache.mark(id);
        cache.clear();
        cache.keep(mark, &session(1, 2));
        assert_eq!(version(&cache, 1), None);
    }

    #[test]
    fn own_changes_that_are_told_again_drop_nothing() {
        let cache = cache(1 << 20);
        replace(&cache, 1, 2);
        cache.changed(session(1, 2).id, Version::new(2).unwrap());
        assert_eq!(version(&cache, 1), Some(2));
    }

    #[test]
    fn what_was_written_is_not_kept_when_a_later_change_was_told_of_before() {
        let cache = cache(1 << 20);
        let tell = |id, version| cache.changed(session(id, 1).id, Version::new(version).unwrap());
        let mark = cache.mark(session(1, 1).id);
        tell(1, 3);
        cache.replace(mark, &session(1, 2));
        assert_eq!(version(&cache, 1), None);
        // Its own change, told of before its writer heard of it; and another session's.
        let mark = cache.mark(session(1, 1).id);
        tell(1, 4);
        cache.replace(mark, &session(1, 4));
        assert_eq!(version(&cache, 1), Some(4));
        let mark = cache.mark(session(1, 1).id);
        tell(1 + PLACES as u128, 9);
        cache.replace(mark, &session(1, 5));
        assert_eq!(version(&cache, 1), Some(5));
        // Of too many changes nobody remembers all.
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
    fn who_is_slow_puts_nothing_back() {
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
            // Somebody else reads a later one, before it is told of or after.
            cache.keep(cache.mark(id), &session(1, 4));
            bring(3);
            assert_eq!(version(&cache, 1), Some(4));
            tell(3);
            tell(4);
            bring(3);
            assert_eq!(version(&cache, 1), Some(4));
            // Also when that had to go meanwhile.
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
    fn what_nobody_vouches_for_is_not_shown() {
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
