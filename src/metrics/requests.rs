//! Requests by route, method and class of status, and the error codes of responses.
//!
//! The code that registers a path creates its route from text of the source, and holds it. A method
//! is one of a few or "other". So the source bounds the number of series, and requests cannot raise
//! it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::Histogram;
use super::cells::Sharded;

const METHODS: [&str; 8] = ["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// More codes than exist. Further codes share one series.
const MAX_CODES: usize = 64;

/// All requests.
#[derive(Debug, Default)]
pub struct Requests {
    routes: Mutex<Vec<Arc<Route>>>,
    pub(super) errcodes: CodeCounters<(i32, &'static str)>,
    pub(super) codes: CodeCounters<&'static str>,
}

/// The requests of one route. A method that was never used has no series.
#[derive(Debug)]
pub struct Route {
    pattern: String,
    methods: [OnceLock<Box<MethodStats>>; METHODS.len()],
}

#[derive(Debug)]
struct MethodStats {
    classes: Sharded<[AtomicU64; CLASSES.len()]>,
    durations: Histogram,
}

/// The number of responses with each code. Errors are rare, so a linear search is fast enough.
#[derive(Debug)]
pub(super) struct CodeCounters<K> {
    slots: [OnceLock<(K, AtomicU64)>; MAX_CODES],
    overflow: AtomicU64,
}

impl Requests {
    /// The route of a path below a prefix. The same text gives the same route.
    #[must_use]
    pub fn route(&self, prefix: &'static str, path: &'static str) -> Arc<Route> {
        let pattern = format!("{prefix}{path}");
        // No code panics while it holds the lock.
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(existing) = routes.iter().find(|route| route.pattern == pattern) {
            return existing.clone();
        }
        let route = Arc::new(Route { pattern, methods: Default::default() });
        routes.push(route.clone());
        route
    }

    /// Counts an error of `/cgi`.
    pub fn errcode(&self, errcode: i32, status: u16) {
        self.errcodes.count((errcode, CLASSES[class(status)]));
    }

    /// Counts a problem of `/v1`.
    pub fn code(&self, code: &'static str) {
        self.codes.count(code);
    }

    /// Every registered route.
    pub(super) fn routes(&self) -> Vec<Arc<Route>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Route {
    /// Counts a response. `duration` is the time that the service worked on it, if it did.
    pub fn record(&self, method: &str, status: u16, duration: Option<Duration>) {
        let method = METHODS.iter().position(|name| *name == method);
        let stats = self.methods[method.unwrap_or(METHODS.len() - 1)].get_or_init(|| {
            Box::new(MethodStats {
                classes: Sharded::default(),
                durations: Histogram::for_short_durations(),
            })
        });
        stats.classes.local()[class(status)].fetch_add(1, Ordering::Relaxed);
        if let Some(duration) = duration {
            stats.durations.observe_duration(duration);
        }
    }

    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The number of responses by method and class of status.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.used_methods().flat_map(|(method, stats)| {
            let count = |class: usize| {
                stats.classes.all().map(|all| all[class].load(Ordering::Relaxed)).sum::<u64>()
            };
            let all = CLASSES.iter().enumerate().map(move |(class, name)| (*name, count(class)));
            all.filter(|(_, count)| *count > 0).map(move |(name, count)| (method, name, count))
        })
    }

    /// The durations by method.
    pub(super) fn durations(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        self.used_methods().map(|(method, stats)| (method, &stats.durations))
    }

    fn used_methods(&self) -> impl Iterator<Item = (&'static str, &MethodStats)> {
        let all = METHODS.iter().zip(&self.methods);
        all.filter_map(|(name, stats)| Some((*name, &**stats.get()?)))
    }
}

/// The index of a status in [`CLASSES`].
fn class(status: u16) -> usize {
    usize::from(status / 100).clamp(1, CLASSES.len()) - 1
}

impl<K> Default for CodeCounters<K> {
    fn default() -> Self {
        Self { slots: std::array::from_fn(|_| OnceLock::new()), overflow: AtomicU64::new(0) }
    }
}

impl<K: Copy + PartialEq> CodeCounters<K> {
    fn count(&self, code: K) {
        for slot in &self.slots {
            let (found, count) = slot.get_or_init(|| (code, AtomicU64::new(0)));
            if *found == code {
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.overflow.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of responses with each code; `None` for further codes.
    pub(super) fn all(&self) -> impl Iterator<Item = (Option<K>, u64)> {
        let counts = self.slots.iter().map_while(OnceLock::get);
        let counts = counts.map(|(code, count)| (Some(*code), count.load(Ordering::Relaxed)));
        let overflow = self.overflow.load(Ordering::Relaxed);
        counts.chain((overflow > 0).then_some((None, overflow)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_methods_and_statuses_count_as_other() {
        let requests = Requests::default();
        let route = requests.route("/v1", "/x");
        assert!(Arc::ptr_eq(&route, &requests.route("/v1", "/x")));
        for (method, status) in
            [("GET", 200), ("GET", 204), ("GET", 503), ("BREW", 405), ("STEEP", 99), ("POST", 999)]
        {
            route.record(method, status, Some(Duration::from_millis(1)));
        }
        route.record("GET", 200, None);
        let answers: Vec<_> = requests.routes()[0].counts().collect();
        assert_eq!(
            answers,
            [
                ("GET", "2xx", 3),
                ("GET", "5xx", 1),
                ("POST", "5xx", 1),
                ("other", "1xx", 1),
                ("other", "4xx", 1),
            ]
        );
        assert_eq!(route.durations().count(), 3);
    }

    #[test]
    fn number_of_codes_is_bounded() {
        let codes = CodeCounters::default();
        for code in 0..100 {
            codes.count(code);
            codes.count(code);
        }
        let all: Vec<_> = codes.all().collect();
        assert_eq!(all.len(), MAX_CODES + 1);
        assert_eq!((all[0], all[MAX_CODES]), ((Some(0), 2), (None, 72)));
    }
}
