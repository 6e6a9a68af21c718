//! Numbers that many threads write and that are seldom read.
//!
//! The official client's histogram takes a lock for each value, and its counters are one number
//! that would go back and forth between processors. So each thread counts in cache lines of its own
//! here, and a reader adds them up. A reader may see a part of the concurrent changes.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How many threads count apart; with more, some share.
const SHARDS: usize = 8;
/// The most buckets of a histogram, the last one without a bound among them.
const BUCKETS: usize = 17;
/// Nanoseconds in a second.
const NANOS_PER_SECOND: f64 = 1e9;

/// The bounds for durations of milliseconds, in nanoseconds: 250 µs to 10 s.
const SHORT_DURATION_BOUNDS: [u64; 15] = [
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// The bounds for calls to other systems, in nanoseconds: 5 ms to 1 min.
const LONG_DURATION_BOUNDS: [u64; 14] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    15_000_000_000,
    30_000_000_000,
    60_000_000_000,
];
/// The bounds of how many share a statement.
const COUNT_BOUNDS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// One for each place.
#[derive(Debug, Default)]
pub(super) struct Sharded<T>([CachePadded<T>; SHARDS]);

/// As long as a cache line, so that no two values share one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CachePadded<T>(T);

impl<T> Sharded<T> {
    /// That of this thread.
    pub(super) fn local(&self) -> &T {
        thread_local! {
            static SHARD: usize = {
                static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);
                NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS
            };
        }
        &self.0[SHARD.with(|index| *index)].0
    }

    /// Those of all threads.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|shard| &shard.0)
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(Sharded<AtomicU64>);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.local().fetch_add(more, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.all().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// A number that rises and falls, on any thread.
#[derive(Debug, Default)]
pub struct Gauge(Sharded<AtomicI64>);

impl Gauge {
    /// Adds `change`, which may be negative.
    pub fn add(&self, change: i64) {
        self.0.local().fetch_add(change, Ordering::Relaxed);
    }

    /// The current number; at least 0.
    #[must_use]
    pub fn value(&self) -> i64 {
        let sum: i64 = self.0.all().map(|level| level.load(Ordering::Relaxed)).sum();
        sum.max(0)
    }
}

/// How values are distributed.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// The divisor of a value when it is shown.
    scale: f64,
    buckets: Sharded<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

/// A histogram as it is shown.
#[derive(Debug, PartialEq)]
pub(super) struct HistogramSnapshot {
    pub(super) sum: f64,
    pub(super) count: u64,
    /// The upper bound of each bucket and its own count; the last bound is infinite.
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// Of durations that should be milliseconds, shown in seconds.
    #[must_use]
    pub fn for_short_durations() -> Self {
        Self {
            bounds: &SHORT_DURATION_BOUNDS,
            scale: NANOS_PER_SECOND,
            buckets: Sharded::default(),
        }
    }

    /// Of durations that others decide on, shown in seconds.
    #[must_use]
    pub fn for_long_durations() -> Self {
        Self { bounds: &LONG_DURATION_BOUNDS, scale: NANOS_PER_SECOND, buckets: Sharded::default() }
    }

    /// Of numbers of items.
    #[must_use]
    pub fn for_counts() -> Self {
        Self { bounds: &COUNT_BOUNDS, scale: 1.0, buckets: Sharded::default() }
    }

    /// Takes in how long something took.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Takes in a value: a number of items, or of nanoseconds.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        let buckets = self.buckets.local();
        buckets.counts[bucket].fetch_add(1, Ordering::Relaxed);
        buckets.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> HistogramSnapshot {
        let bounds = self.bounds.iter().map(|bound| *bound as f64 / self.scale);
        let mut buckets: Vec<(f64, u64)> =
            bounds.chain([f64::INFINITY]).map(|bound| (bound, 0)).collect();
        let mut sum = 0_u64;
        for shard in self.buckets.all() {
            sum = sum.wrapping_add(shard.sum.load(Ordering::Relaxed));
            for (bucket, count) in buckets.iter_mut().zip(&shard.counts) {
                bucket.1 += count.load(Ordering::Relaxed);
            }
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        HistogramSnapshot { sum: sum as f64 / self.scale, count, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_of_all_threads_are_summed() {
        let (counter, level) = (Counter::default(), Gauge::default());
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    (0..1_000).for_each(|_| counter.inc());
                    level.add(3);
                });
            }
        });
        level.add(-58);
        assert_eq!((counter.value(), level.value()), (20_000, 2));
        level.add(-9);
        assert_eq!(level.value(), 0);
    }

    #[test]
    fn value_counts_in_the_first_bucket_that_holds_it() {
        let items = Histogram::for_counts();
        for value in [1, 2, 3, 256, 257] {
            items.observe(value);
        }
        let shown = items.snapshot();
        assert_eq!((shown.sum, shown.count), (519.0, 5));
        let filled: Vec<_> = shown.buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(1.0, 1), (2.0, 1), (4.0, 1), (256.0, 1), (f64::INFINITY, 1)]);
    }

    #[test]
    fn durations_are_exported_in_seconds() {
        for histogram in [Histogram::for_short_durations(), Histogram::for_long_durations()] {
            assert!(histogram.bounds.len() < BUCKETS && histogram.bounds.is_sorted());
            histogram.observe_duration(Duration::from_millis(500));
            histogram.observe_duration(Duration::from_secs(100));
            let shown = histogram.snapshot();
            assert_eq!((shown.sum, shown.count), (100.5, 2));
            assert!(shown.buckets.contains(&(0.5, 1)));
            assert_eq!(shown.buckets.last(), Some(&(f64::INFINITY, 1)));
        }
    }
}
